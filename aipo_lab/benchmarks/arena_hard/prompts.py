"""The judge's prompts of Arena-Hard v0.1: their texts are read from the official `judge_config.yaml`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from aipo_lab.assets.arena_hard import ARENA_HARD
from aipo_lab.core.config import read_yaml
from aipo_lab.core.errors import UserError
from aipo_lab.judging.calls import JudgeRequest, Message

MAX_TOKENS = 4096
"""The benchmark's own limit; AIPO's copy of the configuration says 1024, which cuts long judgments off."""

_SHA256_STARTS = {"system_prompt": "03f68010febd7a64", "prompt_template": "b0260904bc964e0d"}

_CONTINUE = "Please go on with your judgment, and end it with the label of your final verdict."
"""What follows a reply without a label. Our wording: the official sentence, of the same content, is in no data file."""


@dataclass(frozen=True)
class JudgePrompts:
    """The system prompt and the template of the user's message."""

    system: str
    template: str

    @classmethod
    def read(cls, path: Path) -> JudgePrompts:
        """Read the official configuration; raises `UserError` unless both texts are the official ones."""
        config = read_yaml(path, "Arena-Hard's judge configuration")
        templates = config.get("prompt_template")
        texts = {
            "system_prompt": config.get("system_prompt"),
            "prompt_template": templates[0] if isinstance(templates, list) and len(templates) == 1 else None,
        }
        wrong = [name for name, text in texts.items() if _sha256_start(text) != _SHA256_STARTS[name]]
        if wrong:
            raise UserError(
                f"{path}: {' and '.join(wrong)} differ from the official texts of Arena-Hard v0.1, so scores would not "
                f"be comparable. Delete {path.parent} and run: aipo-lab assets fetch {ARENA_HARD.name}"
            )
        return cls(system=str(texts["system_prompt"]), template=str(texts["prompt_template"]))

    def request(self, question: str, answer_a: str, answer_b: str) -> JudgeRequest:
        """The call that asks which of two answers is better."""
        prompt = self.template.format(question_1=question, answer_1=answer_a, answer_2=answer_b)
        messages = (Message("system", self.system), Message("user", prompt))
        return JudgeRequest(messages, max_tokens=MAX_TOKENS, temperature=0.0)


def second_attempt(request: JudgeRequest, reply: str) -> JudgeRequest:
    """The conversation continued after a `reply` without a label."""
    return replace(request, messages=(*request.messages, Message("assistant", reply), Message("user", _CONTINUE)))


def _sha256_start(text: object) -> str | None:
    return hashlib.sha256(text.encode()).hexdigest()[:16] if isinstance(text, str) else None
