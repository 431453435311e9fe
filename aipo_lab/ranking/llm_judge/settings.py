"""The settings of the `llm_judge` ranker."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from aipo_lab.core.config import StrictModel
from aipo_lab.judging.settings import JudgeSettings
from aipo_lab.ranking.llm_judge.templates import JudgeTemplate, check_places, shipped
from aipo_lab.ranking.ranker import JudgeQuestions, RankerResources, RankerSettings

SCORE_PATTERN = r"(?i)score:\W{0,4}([0-5](?:\.\d+)?)(?:\s*/\s*5)?(?![\d./]*\d)"
VERDICT_PATTERN = r"\[\[([ABC])\]\]"


def _check_pattern(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    if groups != 1:
        raise ValueError(f"must have one group in parentheses, for what is read off a reply; it has {groups}")
    return pattern


class MetaJudgeSettings(StrictModel):
    """The judge of judgments (Meta-Rewarding, arXiv 2407.19594, section 2.2)."""

    iterations: int | None = Field(
        None, ge=1, description="the first iterations, in which judgments are judged (none: in all)"
    )
    template: JudgeTemplate = Field(
        None, description="text or file of a template with {prompt}, {response}, {judgment_a}, {judgment_b}; none: ours"
    )
    verdict_pattern: str = Field(
        VERDICT_PATTERN,
        description="regular expression whose group is the verdict: A or 1, B or 2, else a tie; the last counts",
    )
    max_chosen_tokens: int | None = Field(
        None, ge=1, description="pairs of judgments whose better one is longer than this many tokens are dropped"
    )

    _pattern = field_validator("verdict_pattern")(_check_pattern)

    @field_validator("template")
    @classmethod
    def _places(cls, template: str | None) -> str | None:
        check_places("meta", template)
        return template


class LLMJudgeSettings(RankerSettings):
    """Who judges, what is asked and how replies are read."""

    ranker: Literal["llm_judge"] = Field("llm_judge", description="ranker: llm_judge")
    judge: JudgeSettings | None = Field(
        None, description="who is asked, as benchmarks.judge; none: the policy of the iteration, by the recipe's engine"
    )
    mode: Literal["additive", "pairwise"] = Field(
        "additive",
        description="additive: points for every response, 0 to 5; pairwise: every two responses in both orders, scores "
        "are win rates (ties half)",
    )
    samples: int = Field(3, ge=1, le=64, description="replies to each question, over which the mean is taken")
    temperature: float = Field(0.7, ge=0, le=2, description="softmax temperature of replies")
    max_new_tokens: int = Field(512, ge=1, description="cap on a reply's length in tokens")
    max_chars: int = Field(
        40_000,
        ge=100,
        description="most characters of a question to a judge that is no policy; the ends of longer responses are cut "
        "off (and counted), as they are where a policy has no room",
    )
    template: JudgeTemplate = Field(
        None,
        description="text or file of a template with {prompt} and {response}, or, pairwise, {prompt}, {response_a} and "
        "{response_b}; none: ours",
    )
    score_pattern: str = Field(
        SCORE_PATTERN, description="additive: regular expression whose group is the score as a number; the last counts"
    )
    verdict_pattern: str = Field(
        VERDICT_PATTERN,
        description="pairwise: regular expression whose group is the verdict: A or 1, B or 2, anything else a tie; the "
        "last counts",
    )
    meta: MetaJudgeSettings | None = Field(
        None, description="judge the judgments too, which makes pairs that train the policy's judging; none: do not"
    )

    _patterns = field_validator("score_pattern", "verdict_pattern")(_check_pattern)

    @model_validator(mode="after")
    def _agree(self) -> LLMJudgeSettings:
        check_places(self.mode, self.template)
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                f"temperature 0 gives the same reply each time, so {self.samples} samples would be copies; raise it, "
                "or set samples: 1"
            )
        if self.meta is not None and (self.mode != "additive" or self.samples < 2):
            raise ValueError(
                "meta compares several judgments of one response; set mode: additive and samples to 2 or more"
            )
        return self

    def at(self, iteration: int) -> Self:
        """See `RankerSettings.at`: without the judge of judgments after the iterations that have one."""
        is_over = self.meta is not None and self.meta.iterations is not None and iteration >= self.meta.iterations
        return self.model_copy(update={"meta": None}) if is_over else self

    def asks_policy(self) -> bool:
        """See `RankerSettings.asks_policy`."""
        return self.judge is None

    def asked_judge(self) -> JudgeSettings | None:
        """See `RankerSettings.asked_judge`."""
        return self.judge

    def questions(self, n_candidates: int) -> Sequence[JudgeQuestions]:
        """See `RankerSettings.questions`."""
        pairwise, most = self.mode == "pairwise", self.max_new_tokens
        n = n_candidates * (n_candidates - 1 if pairwise else 1) * self.samples
        asked = [JudgeQuestions(n, len(self.template or shipped(self.mode)), 1 + pairwise, 0, most)]
        if self.meta is not None:
            n_battles = self.samples * (self.samples - 1)
            asked.append(JudgeQuestions(n_battles, len(self.meta.template or shipped("meta")), 1, 2 * most, most))
        return asked

    def key_values(self) -> dict[str, Any]:
        """See `RankerSettings.key_values`: templates in full; of a judge only what determines its replies."""
        values = super().key_values() | {"template": self.template or shipped(self.mode)}
        if self.judge is not None:
            values["judge"] = _identity(self.judge)
        if self.meta is not None:
            own = self.meta.model_dump(mode="json", exclude={"iterations"})
            values["meta"] = own | {"template": self.meta.template or shipped("meta")}
        return values


def _identity(judge: JudgeSettings) -> dict[str, Any]:
    """The settings of a judge that determine its replies (`JudgeSettings.identity`), a local one's model as named."""
    names = {"engine", "model", "label"}
    return judge.model_dump(
        mode="json", include=names | ({"dtype", "chat_template", "template_date"} if judge.engine == "local" else set())
    )


def resources(settings: LLMJudgeSettings) -> RankerResources:
    """A local judge's model by its content; raises `UserError` where it is missing or unusable."""
    judge = settings.judge
    if judge is None or judge.engine != "local":
        return RankerResources()
    return RankerResources({"judge": _identity(judge) | {"model": judge.identity()["fingerprint"]}})
