"""What a stage is: a name, a version, a config class and a function; and how one is found and run."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import Field

from aipo_lab.core.config import StrictModel
from aipo_lab.core.devices import visible_names
from aipo_lab.core.progress import Progress
from aipo_lab.core.store import Artifact, ArtifactRequest, Store, parts_folder
from aipo_lab.generation.live import stop_live_engines
from aipo_lab.judging.calls import Judge
from aipo_lab.judging.settings import JudgeSettings
from aipo_lab.training.config import ParallelSettings

STAGE_NAMES = (
    "base",
    "pool",
    "instruct",
    "respond",
    "train_reward",
    "rank",
    "pair",
    "given_pairs",
    "slice_pairs",
    "slice_responses",
    "accumulate",
    "ema",
    "reference",
    "analyse",
    "train",
    "answer",
    "answer_official",
    "given_answers",
    "judge",
    "judge_official",
)

MEMORY_STAGES = ("base", "train_reward", "reference", "train")
"""What computes with weights in memory of its own: an engine that lives in other processes makes room first."""

RESULT_STAGES = ("analyse", "judge", "judge_official")
"""What they write is reported, not an input of further stages."""

Config = TypeVar("Config", bound=StrictModel)


class JudgingRuntime(StrictModel):
    """How benchmarks and rankers ask a judge: it in full, where its replies are kept and what it may spend."""

    settings: JudgeSettings = Field(description="the judge")
    calls: str = Field(description="folder of the stored replies")
    ledger: str = Field(description="file of the money this command spends")

    def open(self, device: str) -> Judge:
        """The judge; see `open_judge` for errors."""
        from aipo_lab.judging.ledger import SharedBudget
        from aipo_lab.judging.opening import open_judge

        budget = SharedBudget.open(Path(self.ledger))
        return open_judge(self.settings, Path(self.calls), budget=budget, device=device)


class Runtime(StrictModel):
    """How a stage computes, as opposed to what: not part of its key."""

    threads: int = Field(1, ge=1, description="CPU threads of the process that runs the stage")
    device: str = Field("cpu", description="torch device: cpu, cuda, cuda:1, …")
    devices: list[str] = Field(
        default_factory=list, description="names of the devices it may be given; none: nothing is divided"
    )
    checkpoint_interval_s: float = Field(300, ge=0, description="seconds between checkpoints inside a training")
    parallel: ParallelSettings = Field(
        default_factory=ParallelSettings, description="how a training is spread over processes"
    )
    engine: dict[str, Any] = Field(
        default_factory=dict, description="the settings of the generation engine that are in no key"
    )
    model_folder: str | None = Field(None, description="the base model's folder in this run; none: it is in the store")
    ranker_folders: dict[str, str] = Field(
        default_factory=dict, description="where the ranker's models lie in this run, by the ranker's own names"
    )
    data: dict[str, Any] | None = Field(None, description="where the user's data lie, for the stages that read them")
    answer_file: str | None = Field(None, description="the official answer file that given answers are read from")
    judging: JudgingRuntime | None = Field(None, description="how official benchmarks are judged, or candidates")


@dataclass(frozen=True)
class StageContext(Generic[Config]):
    """What a stage function is given. It writes its files into `folder` and returns a summary."""

    config: Config
    inputs: Mapping[str, Artifact]
    folder: Path
    final_folder: Path
    runtime: Runtime
    progress: Progress

    @property
    def parts(self) -> Path:
        """Files written here survive a kill and are there when the stage runs again."""
        return parts_folder(self.folder)


@dataclass(frozen=True)
class StageDefinition:
    """A registered stage."""

    name: str
    version: int
    config: type[StrictModel]
    run: Callable[[StageContext[Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class StageNode:
    """One stage of a graph: what it is made from and how it computes."""

    request: ArtifactRequest
    runtime: Runtime = field(default_factory=Runtime)

    @property
    def stage(self) -> str:
        """The stage's name."""
        return self.request.stage

    @property
    def key(self) -> str:
        """The key of the artifact it makes."""
        return self.request.key

    @cached_property
    def reference(self) -> str:
        """`<stage>/<key>`, as other nodes name it among their inputs."""
        return f"{self.stage}/{self.key}"

    @property
    def title(self) -> str:
        """What a person reads: the stage, and the benchmark it is about if there is one."""
        benchmark = self.request.config.get("benchmark")
        return self.stage if benchmark is None else f"{self.stage} of {benchmark}"


_DEFINITIONS: dict[str, StageDefinition] = {}

Run = TypeVar("Run", bound=Callable[[StageContext[Any]], Mapping[str, Any]])


def stage(name: str, *, version: int, config: type[StrictModel]) -> Callable[[Run], Run]:
    """Register a stage function. Raise `version` whenever the same config and inputs give other bytes."""

    def register(run: Run) -> Run:
        _DEFINITIONS[name] = StageDefinition(name, version, config, run)
        return run

    return register


def get_stage(name: str) -> StageDefinition:
    """The stage called `name`; imports its module on first use."""
    assert name in STAGE_NAMES, name
    if name not in _DEFINITIONS:
        importlib.import_module(f"aipo_lab.stages.{name}")
    return _DEFINITIONS[name]


def find_made(store: Store, node: StageNode) -> Artifact | None:
    """The node's artifact if it is in the store; results, which no further stage checks, with their content checked."""
    look_up = store.find_intact if node.stage in RESULT_STAGES else store.find
    return look_up(node.stage, node.key)


def run_stage(
    node: StageNode, store: Store, progress: Progress, on_wait: Callable[[], None] = lambda: None
) -> Artifact:
    """Make the node's artifact in this process (or find it made).

    Raises `InputLost` if an input is damaged (it is set aside) or not in the store, `UserError` if the store cannot be
    written to.
    """
    definition = get_stage(node.stage)
    inputs = {name: store.take_input(reference) for name, reference in node.request.inputs.items()}

    def build(folder: Path) -> Mapping[str, Any]:
        if node.stage in MEMORY_STAGES:
            stop_live_engines()
        context = StageContext(
            config=definition.config.model_validate(node.request.config),
            inputs=inputs,
            folder=folder,
            final_folder=store.path(node.stage, node.key),
            runtime=node.runtime,
            progress=progress,
        )
        return definition.run(context)

    return store.make(node.request, build, on_wait, _computed_on(node))


def _computed_on(node: StageNode) -> dict[str, Any]:
    """The kind and number of the devices a stage runs on, as its manifest says them: plans learn speeds from it.

    `visible` are the names of those it was given.
    """
    from aipo_lab.stages.devices import devices_used

    device = node.runtime.device
    if device.startswith("cuda"):
        import torch

        device = torch.cuda.get_device_name(torch.device(device)) if torch.cuda.is_available() else device
    used = devices_used(node.stage, node.request.config, node.runtime)
    given = {"visible": list(visible_names() or ())} if node.runtime.devices else {}
    return {"device": device, "devices": used, **given}
