"""The table of speeds, lengths and yields that plans reckon with (`throughputs.yaml`), checked and typed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import Field

from aipo_lab.core.config import StrictModel, read_yaml, suggest, validate
from aipo_lab.core.errors import UserError

THROUGHPUTS_FILE = Path(__file__).with_name("throughputs.yaml")


class Figure(StrictModel):
    """A number and where it comes from."""

    value: float = Field(gt=0, description="the number, in the unit of its place")
    source: str = Field(min_length=1, description="publication, measurement, or that it is an assumption")


class Gpu(StrictModel):
    """A kind of GPU."""

    peak_tflops: float = Field(gt=0, description="dense bfloat16 peak in TFLOP/s")
    memory_gib: float = Field(gt=0, description="memory in GiB")
    generate: float = Field(gt=0, le=1, description="share of the peak that writing tokens reaches")
    source: str = Field(min_length=1, description="where these come from")


class Processor(StrictModel):
    """What a thread of a processor reaches in float32."""

    gflops: dict[str, Figure] = Field(description="GFLOP/s of a thread by kind of work, as for GPUs")
    start_s: Figure = Field(description="seconds in which a stage starts and loads what it needs")


class RankerWork(StrictModel):
    """What a pairwise ranker computes: every ordered pair of a prompt's candidates."""

    parameters: int = Field(gt=0, description="parameters without the embedding")
    most_tokens: int = Field(gt=0, description="tokens at which an encoding is cut")
    source: str = Field(min_length=1, description="where these come from")


class SentenceWork(StrictModel):
    """The sentence encoder that compares chosen and rejected responses."""

    parameters: int = Field(gt=0, description="parameters without the embedding")
    most_tokens: int = Field(gt=0, description="tokens at which a text is cut")
    source: str = Field(min_length=1, description="where these come from")


class JudgeWork(StrictModel):
    """What judging one answer (or turn) of an official benchmark asks."""

    calls: int = Field(ge=1, description="calls for an answer or turn")
    characters: int = Field(ge=0, description="mean characters of a call without the answer")
    answers: float = Field(gt=0, description="mean number of answers that a call shows")
    reply: int = Field(ge=1, description="tokens of a reply, expected")
    most: int = Field(ge=1, description="tokens of a reply at its cap")
    source: str = Field(min_length=1, description="where these come from")


class Throughputs(StrictModel):
    """The file `throughputs.yaml`."""

    gpus: dict[str, Gpu] = Field(description="by name, as --gpu takes it")
    shares: dict[str, Figure] = Field(description="share of a GPU's peak by kind of work")
    processor: Processor = Field(description="a machine without a GPU")
    rankers: dict[str, RankerWork] = Field(description="by ranker")
    sentences: SentenceWork = Field(description="the encoder of the pair analysis")
    lengths: dict[str, Figure] = Field(description="mean tokens by what is written or read")
    counts: dict[str, Figure] = Field(description="how many there are of what is not here to be counted")
    yields: dict[str, Figure] = Field(description="share kept by stage")
    judging: dict[str, JudgeWork] = Field(description="by official benchmark")
    times: dict[str, Figure] = Field(description="seconds")
    disk: dict[str, Figure] = Field(description="bytes")

    def gpu(self, name: str) -> Gpu:
        """The GPU called `name`; raises `UserError` listing the known ones."""
        if name not in self.gpus:
            raise UserError(f"--gpu {name!r} is in no table; {suggest(name, list(self.gpus))}")
        return self.gpus[name]


@cache
def throughputs() -> Throughputs:
    """The table that comes with aipo-lab."""
    return validate(Throughputs, read_yaml(THROUGHPUTS_FILE, "table of throughputs"), str(THROUGHPUTS_FILE))
