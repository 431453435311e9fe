"""IFEval and IFBench: prompts with instructions that a program checks, so that abilities show without any judge."""

from pydantic import Field, field_validator

from aipo_lab.benchmarks.catalogue import BENCHMARKS, OFFICIAL_PACKAGES, OfficialEntry
from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.benchmarks.official import OfficialBenchmarkSettings

METRICS = ("prompt_strict", "prompt_loose", "instruction_strict", "instruction_loose")


class InstructionFollowingSettings(OfficialBenchmarkSettings):
    """IFEval or IFBench; answers are greedy, as in the published results."""

    max_new_tokens: int = Field(1280, ge=1, description="cap on an answer's length in tokens, end token included")

    @field_validator("baseline")
    @classmethod
    def _no_baseline(cls, value: object) -> object:
        if value != "official":
            raise ValueError("instructions are checked, not compared with another model's answers; leave it out")
        return value


def _add(name: str, title: str, n_questions: int) -> None:
    BENCHMARKS.add(
        name,
        OfficialEntry(
            title=title,
            settings=InstructionFollowingSettings,
            loader=f"aipo_lab.benchmarks.instruction_following.benchmark:{title}",
            assets=(name, "nltk-data"),
            requires=("if_verifiable",),
            install=OFFICIAL_PACKAGES,
            answer_file="answers/*.jsonl",
            needs_judge=False,
            metrics=METRICS,
            n_questions=n_questions,
            headline=BenchmarkMetrics(
                win_rate=f"{name}/prompt_strict",
                win_rate_label=f"{title} prompts followed, strict (%)",
                length=f"{name}/length_chars",
                length_label="Mean response length (characters)",
            ),
        ),
    )


_add("ifeval", "IFEval", 541)
_add("ifbench", "IFBench", 300)
