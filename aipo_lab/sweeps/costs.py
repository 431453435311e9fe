"""What a sweep takes on GPUs or on this machine's processor: device time, wall time and disk, expected and at most.

A stage's time is its tokens at the speed that the store's manifests tell of the same model on the same kind of device;
where it has not run yet, its floating-point operations at the share of the device's peak that `throughputs.yaml` gives.
The wall time is that of the whole graph, scheduled on the devices (`aipo_lab.execution.simulated`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from aipo_lab.core.errors import UserError
from aipo_lab.core.store import Store
from aipo_lab.execution.simulated import SimulatedStage, simulate
from aipo_lab.models.size import ModelSize, model_size
from aipo_lab.pipeline.recipe import Recipe
from aipo_lab.stages.definition import STAGE_NAMES, StageNode
from aipo_lab.stages.devices import GENERATING, devices_used
from aipo_lab.sweeps.given_pairs import GivenPairs
from aipo_lab.sweeps.measured import MeasuredFigures, Rate
from aipo_lab.sweeps.plan import SweepGraph
from aipo_lab.sweeps.throughputs import Gpu, Throughputs, throughputs
from aipo_lab.sweeps.work import Work, WorkEstimator
from aipo_lab.training.checkpoint import KEPT

FLOP_READ = FLOP_WRITTEN = FLOP_SCORED = 2
"""Per parameter and token: a multiplication and an addition."""
FLOP_TRAINED = 6
"""Forward, and twice that backward; computing activations again adds another forward."""
TRAINING_STATE_BYTES = 12
"""Per parameter in a training's own checkpoint: float32 weights and AdamW's two moments."""


@dataclass(frozen=True)
class GpuPlace:
    """Where a sweep is planned to run."""

    kind: str
    count: int

    @property
    def gpu(self) -> Gpu:
        """The figures of its GPUs; raises `UserError` for a kind that is in no table."""
        return throughputs().gpu(self.kind)

    @property
    def speeds(self) -> Speeds:
        """What the work of one of them reaches."""
        table = throughputs()
        shares = {name: figure.value for name, figure in table.shares.items()} | {"generate": self.gpu.generate}
        peak = self.gpu.peak_tflops * 1e12
        return Speeds({name: peak * share for name, share in shares.items()}, table.times["load_s"].value)

    def devices(self, node: StageNode) -> int:
        """How many of them a stage holds."""
        return devices_used(node.stage, node.request.config, node.runtime)

    def workers(self, recipes: Iterable[Recipe]) -> int:
        """Stages that run side by side and hold some: one per GPU, unless a recipe says how many."""
        return min(self.count if one.compute.workers == "auto" else one.compute.workers for one in recipes)


@dataclass(frozen=True)
class ProcessorPlace:
    """This machine without a GPU: `count` workers of `threads` threads each, which are its devices."""

    threads: int
    count: int
    kind: str = "cpu"

    @property
    def speeds(self) -> Speeds:
        """What the work of one worker reaches."""
        processor = throughputs().processor
        return Speeds(
            {name: figure.value * 1e9 * self.threads for name, figure in processor.gflops.items()},
            processor.start_s.value,
        )

    def devices(self, _: StageNode) -> int:
        """Every stage has a worker to itself."""
        return 1

    def workers(self, _: Iterable[Recipe]) -> int:
        """Stages that run side by side."""
        return self.count


Place = GpuPlace | ProcessorPlace


@dataclass(frozen=True)
class Speeds:
    """What one device reaches: floating-point operations a second by kind of work, and seconds to start a stage."""

    flop_per_s: Mapping[str, float]
    start_s: float


@dataclass
class StageCost:
    """All runs of one stage that are left to do. `devices`: the most that one of them holds."""

    stage: str
    runs: int = 0
    devices: int = 0
    tokens: float = 0.0
    device_s: float = 0.0
    most_tokens: float = 0.0
    most_device_s: float = 0.0
    figures: dict[str, None] = field(default_factory=dict)


@dataclass(frozen=True)
class DiskUse:
    """Bytes that a sweep leaves behind, as nothing is freed, and (`trainings`) what trainings hold while they run."""

    n_checkpoints: int
    checkpoints: int
    texts: float
    trainings: int


@dataclass(frozen=True)
class SweepCost:
    """What is left of a sweep: by stage, then the seconds of the whole schedule, and the disk."""

    place: Place
    stages: list[StageCost]
    wall_s: float
    most_wall_s: float
    disk: DiskUse

    @property
    def device_s(self) -> float:
        """Device seconds, expected."""
        return sum(stage.device_s for stage in self.stages)

    @property
    def most_device_s(self) -> float:
        """Device seconds, at most."""
        return sum(stage.most_device_s for stage in self.stages)


class CostEstimator:
    """Estimates the time of single stage runs at a place."""

    def __init__(self, graph: SweepGraph, store: Store, place: Place) -> None:
        self.graph = graph
        self.place = place
        self.table: Throughputs = throughputs()
        self.measured = MeasuredFigures(store, graph.nodes, place.kind)
        given = GivenPairs(graph)
        self.expected = WorkEstimator(self.table, measured=self.measured.length, given=given.of)
        self.most = WorkEstimator(self.table, most=True, given=given.of)
        self.speeds = place.speeds
        self.sizes = self._sizes()

    def recipe(self, node: StageNode) -> Recipe:
        """The recipe of the first trial that uses the node."""
        return self.graph.recipes[self.graph.users[node.reference][0]]

    def size(self, node: StageNode) -> ModelSize:
        """The size of the node's policy."""
        return self.sizes[self.recipe(node).model.source]

    def duration_s(self, node: StageNode, work: Work) -> tuple[float, str]:
        """Seconds of a run with that much work, and where the speed is from."""
        devices = self.place.devices(node)
        rate = self.measured.rate(node)
        if rate is not None:
            amount = work.tokens if rate.unit == "tokens" else work.items
            return amount / rate.per_s / max(devices, 1), _measured_text(rate, self.place.kind)
        if node.stage == "judge_official" or work.calls:
            recipe = self.recipe(node)
            judge = recipe.rank.asked_judge() if node.stage == "rank" else recipe.benchmarks.judge
            calls_at_once = judge.concurrency if judge else 1
            return work.calls * self.table.times["call_s"].value / calls_at_once, "table"
        if devices == 0 or (self.place.kind == "cpu" and not work.tokens):
            return 0.0, "table"
        return self.speeds.start_s + self._compute_s(node, work) / devices, "table"

    def _compute_s(self, node: StageNode, work: Work) -> float:
        """Seconds of a single device."""
        speeds, n = self.speeds.flop_per_s, self.size(node).parameters
        ranker = self.table.rankers.get(self.recipe(node).rank.ranker)
        flop_trained = FLOP_TRAINED + 2 * (self.recipe(node).train.gradient_checkpointing is not False)
        seconds = work.read * FLOP_READ * n / speeds["read"]
        seconds += work.written * FLOP_WRITTEN * n / speeds["generate"]
        seconds += work.trained * flop_trained * n / speeds["train"]
        seconds += work.scored * FLOP_SCORED * n / speeds["score"]
        seconds += work.encoded * FLOP_READ * self.table.sentences.parameters / speeds["rank"]
        return seconds + work.ranked * 2 * (ranker.parameters if ranker else 0) / speeds["rank"]

    def _sizes(self) -> dict[str, ModelSize]:
        sizes, unknown = {}, []
        for source, base in self.graph.base_models.items():
            size = model_size(source, base.folder)
            if size is None:
                unknown.append(source)
            else:
                sizes[source] = size
        if unknown:
            raise UserError(
                f"the size of model.source {', '.join(unknown)} is not known, so nothing can be said of time: give "
                "a folder that has the model (--set model.source=FOLDER), or add it to "
                "aipo_lab/models/known_models.yaml"
            )
        return sizes


def sweep_cost(graph: SweepGraph, store: Store, place: Place, stored: set[str]) -> SweepCost:
    """What is left of a sweep at a place.

    Raises `UserError` if a stage needs more GPUs than there are, or a model's size is not known.
    """
    estimator = CostEstimator(graph, store, place)
    left = {reference: node for reference, node in graph.nodes.items() if reference not in stored}
    _check_devices(estimator, left)
    costs = {stage: StageCost(stage) for stage in STAGE_NAMES}
    simulated: dict[str, SimulatedStage] = {}
    at_most: dict[str, SimulatedStage] = {}
    for reference, node in left.items():
        devices = place.devices(node)
        recipe, inputs = estimator.recipe(node), tuple(node.request.inputs.values())
        work, most = estimator.expected.work(node, recipe), estimator.most.work(node, recipe)
        seconds, figure = estimator.duration_s(node, work)
        most_s, _ = estimator.duration_s(node, most)
        simulated[reference] = SimulatedStage(seconds, devices, inputs)
        at_most[reference] = SimulatedStage(max(seconds, most_s), devices, inputs)
        _add(costs[node.stage], work, most, devices, seconds, most_s, figure)
    workers = place.workers(graph.recipes.values())
    return SweepCost(
        place,
        [cost for cost in costs.values() if cost.runs],
        simulate(simulated, place.count, workers).wall_s,
        simulate(at_most, place.count, workers).wall_s,
        _disk(estimator, left),
    )


def _add(cost: StageCost, work: Work, most: Work, devices: int, seconds: float, most_s: float, figure: str) -> None:
    cost.runs += 1
    cost.devices = max(cost.devices, devices)
    cost.tokens += work.tokens
    cost.most_tokens += most.tokens
    cost.device_s += seconds * devices
    cost.most_device_s += max(seconds, most_s) * devices
    if devices:
        cost.figures[figure] = None


def _check_devices(estimator: CostEstimator, left: Mapping[str, StageNode]) -> None:
    count = estimator.place.count
    needs: dict[str, int] = defaultdict(int)
    for node in left.values():
        needs[node.stage] = max(needs[node.stage], estimator.place.devices(node))
    problems = [
        f"{stage} needs {devices} GPUs at once, but --gpus says {count}; raise it, or lower "
        + ("engine.tensor_parallel or engine.data_parallel" if stage in GENERATING else "compute.processes")
        for stage, devices in needs.items()
        if devices > count
    ]
    if problems:
        raise UserError.from_problems("the sweep does not fit:", problems)


def _disk(estimator: CostEstimator, left: Mapping[str, StageNode]) -> DiskUse:
    """Responses count twice: `rank` writes them again with their scores."""
    trainings = [node for node in left.values() if node.stage == "train"]
    tokens = sum(
        estimator.expected.work(node, estimator.recipe(node)).written * (2 if node.stage == "respond" else 1)
        for node in left.values()
    )
    under_way = (
        estimator.size(node).parameters * max(1, estimator.place.count // node.runtime.parallel.processes)
        for node in trainings
    )
    return DiskUse(
        n_checkpoints=len(trainings),
        checkpoints=sum(estimator.size(node).weight_bytes for node in trainings),
        texts=tokens * estimator.table.disk["token"].value,
        trainings=KEPT * TRAINING_STATE_BYTES * max(under_way, default=0),
    )


def _measured_text(rate: Rate, kind: str) -> str:
    each = "a worker" if kind == "cpu" else f"a {kind}"
    return f"measured: {rate.per_s:,.1f} {rate.unit}/s {each} ({rate.n_runs} runs)"
