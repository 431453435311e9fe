"""A conversation with one policy: turn by turn, the answer's text handed on while it is written.

It speaks to the policy as the stages do: the same rendering of messages, the same end tokens, and no setting of the
model folder's own but what is given here. What was said is rendered anew for every turn, as in multi-turn benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aipo_lab.core.errors import UserError
from aipo_lab.core.seeds import derive_seed
from aipo_lab.generation.engine import Completion, SamplingConfig
from aipo_lab.models.chat import Message, encode_prompt, turn_end_token
from aipo_lab.models.decoding import only_given_settings
from aipo_lab.models.policy import Policy
from aipo_lab.models.template import ChatSettings

INCOMPLETE = "\ufffd"
"""What the first bytes of a letter are decoded to until the others are there."""


class Conversation:
    """What was said to a policy and what it said; the same words with the same seed get the same answers."""

    def __init__(
        self, policy: Policy, chat: ChatSettings, sampling: SamplingConfig, seed: int, system: str | None = None
    ) -> None:
        self.policy = policy
        self.chat = chat
        self.sampling = sampling
        self.seed = seed
        self.messages: list[Message] = [] if system is None else [{"role": "system", "content": system}]
        turn_end = turn_end_token(policy.tokenizer, chat)
        self.end_token_ids = policy.end_token_ids | (frozenset() if turn_end is None else {turn_end})

    def reply(self, text: str, on_text: Callable[[str], None]) -> Completion:
        """The policy's answer to `text`; `on_text` gets it piece by piece.

        Raises `UserError`, and forgets `text`, if the conversation leaves no room for an answer or the template refuses
        it. Interrupted, it forgets `text` as well.
        """
        messages = [*self.messages, {"role": "user", "content": text}]
        prompt = self._encode(messages)
        room = self.policy.room_tokens(len(prompt))
        if room == 0:
            raise UserError(
                f"the conversation has {len(prompt)} tokens, and the model's {self.policy.n_positions} positions leave "
                "no room for an answer; begin a new one"
            )
        written = _Writer(self.policy.tokenizer, self.end_token_ids, len(prompt), on_text)
        self._generate(prompt, min(room, self.sampling.max_new_tokens), written)
        answer = written.finish()
        self.messages = [*messages, {"role": "assistant", "content": answer.text}]
        return answer

    def _encode(self, messages: Sequence[Message]) -> list[int]:
        from jinja2 import TemplateError

        try:
            return encode_prompt(self.policy.tokenizer, messages, self.chat)
        except TemplateError as error:
            raise UserError(f"the model's chat template refuses this conversation: {error}") from None

    def _generate(self, prompt: list[int], cap: int, written: _Writer) -> None:
        import torch
        from transformers import GenerationConfig

        greedy = self.sampling.temperature == 0
        settings = GenerationConfig(
            max_new_tokens=cap,
            do_sample=not greedy,
            temperature=None if greedy else self.sampling.temperature,
            top_p=None if greedy else self.sampling.top_p,
            top_k=None if greedy else self.sampling.top_k,
            eos_token_id=sorted(self.end_token_ids),
            pad_token_id=self.policy.pad_token_id,
        )
        model = self.policy.model
        ids = torch.tensor([prompt], device=model.device)
        with torch.random.fork_rng(), torch.inference_mode(), only_given_settings(model):
            torch.manual_seed(derive_seed(self.seed, len(self.messages)))
            model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings, streamer=written
            )


class _Writer:
    """Receives tokens from `generate` and hands on the text that they make, whole letters only."""

    def __init__(
        self, tokenizer: Any, end_token_ids: frozenset[int], prompt_tokens: int, on_text: Callable[[str], None]
    ) -> None:
        self.tokenizer = tokenizer
        self.end_token_ids = end_token_ids
        self.left_of_prompt = prompt_tokens
        self.on_text = on_text
        self.tokens: list[int] = []
        self.shown = ""

    def put(self, tokens: Any) -> None:
        """Take tokens: first those of the prompt, then one after the other those that are written."""
        new = tokens.flatten().tolist()
        skipped = min(self.left_of_prompt, len(new))
        self.left_of_prompt -= skipped
        self.tokens += new[skipped:]
        if self.tokens and not (text := self._text()).endswith(INCOMPLETE):
            self._show(text)

    def end(self) -> None:
        """Nothing is left to be told by `generate`."""

    def finish(self) -> Completion:
        """The whole answer, all of its text handed on."""
        text = self._text()
        self._show(text)
        ended = bool(self.tokens) and self.tokens[-1] in self.end_token_ids
        return Completion(text, self.tokens, "stop" if ended else "length")

    def _show(self, text: str) -> None:
        if text.startswith(self.shown) and text != self.shown:
            self.on_text(text[len(self.shown) :])
            self.shown = text

    def _text(self) -> str:
        said = self.tokens[:-1] if self.tokens[-1:] and self.tokens[-1] in self.end_token_ids else self.tokens
        text = self.tokenizer.decode(said, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text
