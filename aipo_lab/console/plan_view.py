"""What `aipo-lab plan` shows: trials, stage runs shared and stored, tokens, judge calls, money, time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aipo_lab.console.cost_view import show_cost, show_local_cost
from aipo_lab.console.time_left import format_duration
from aipo_lab.core.store import Store
from aipo_lab.judging.money import usd_text
from aipo_lab.pipeline.placement import recipe_devices
from aipo_lab.stages.definition import STAGE_NAMES
from aipo_lab.stages.devices import devices_used
from aipo_lab.stages.stored import find_stored
from aipo_lab.sweeps.costs import GpuPlace, ProcessorPlace, sweep_cost
from aipo_lab.sweeps.foreseen import foresee_graph
from aipo_lab.sweeps.memory import planned_memory
from aipo_lab.sweeps.plan import StagePlan, SweepGraph, estimate_duration_s, plan_stages, sweep_workers
from aipo_lab.sweeps.plan_judging import expected_cost, foreseen_cost, judging_costs, sum_costs
from aipo_lab.sweeps.resolution import smallest_differences
from aipo_lab.sweeps.sweep import Sweep
from aipo_lab.sweeps.throughputs import throughputs

DEFAULT_GPU = "h100"


def show_plan(sweep: Sweep, store_root: Path, gpus: int | None = None, gpu: str | None = None) -> None:
    """Print what a sweep would do; on GPUs if some are given, or the recipe computes on them."""
    console = Console()
    store = Store(store_root)
    foreseen = foresee_graph(sweep)
    graph = foreseen.graph
    stored = find_stored(graph.nodes.values(), store)
    place = _place(graph, gpus, gpu)
    cost = None if place is None else sweep_cost(graph, store, place, stored)
    plans = plan_stages(graph, store, stored)
    memory = [] if place is None else planned_memory(graph, place.gpu.memory_gib)
    console.print(_trial_table(sweep))
    console.print(plan_table(plans))
    saved = sum(plan.unshared - plan.distinct for plan in plans)
    console.print(f"sharing saves {saved} stage runs")
    _show_smallest_differences(console, sweep)
    _show_devices(console, graph)
    _show_judging(console, graph, store)
    if cost is None:
        _show_local_time(console, sweep, graph, store, stored)
    else:
        show_cost(console, cost)
        for text in memory:
            console.print(f"memory: {text}", highlight=False, soft_wrap=True)
    _show_missing(console, foreseen.missing)


def _place(graph: SweepGraph, gpus: int | None, gpu: str | None) -> GpuPlace | None:
    """The GPUs to plan for: those given, else as many as the recipes' stages hold.

    None for a sweep on the processor. Raises `UserError` for a kind of GPU that is in no table.
    """
    on_gpus = any(recipe.compute.device.startswith("cuda") for recipe in graph.recipes.values())
    if gpus is None and gpu is None and not on_gpus:
        return None
    most = max(devices_used(node.stage, node.request.config, node.runtime) for node in graph.nodes.values())
    place = GpuPlace(gpu or DEFAULT_GPU, gpus or max(most, 1))
    throughputs().gpu(place.kind)
    return place


def _show_devices(console: Console, graph: SweepGraph) -> None:
    """What this machine has for recipes that compute on devices, and how many a stage takes."""
    computes = [
        one.compute for one in graph.recipes.values() if one.compute.device != "cpu" or one.compute.devices != "auto"
    ]
    if not computes:
        return
    found = {str(device): None for compute in computes for device in recipe_devices(compute)}
    takes: dict[str, int] = {}
    for node in graph.nodes.values():
        if count := devices_used(node.stage, node.request.config, node.runtime):
            takes[node.stage] = max(takes.get(node.stage, 0), count)
    here = ", ".join(found) if found else "none found on this machine"
    text = f"devices: {here}; at once take " + ", ".join(f"{stage} {count}" for stage, count in takes.items())
    console.print(escape(text), highlight=False, soft_wrap=True)


def _trial_table(sweep: Sweep) -> Table:
    trials = Table(title=f"{sweep.name}: {len(sweep.trials)} trials, profile {sweep.profile}", title_justify="left")
    trials.add_column("trial", overflow="fold")
    trials.add_column("objective")
    trials.add_column("settings")
    trials.add_column("iterations", justify="right")
    for trial in sweep.trials:
        settings = " ".join(f"{name}={value}" for name, value in trial.hyperparameters().items())
        trials.add_row(trial.name, trial.objective, settings, str(trial.recipe.iterations))
    return trials


def _show_smallest_differences(console: Console, sweep: Sweep) -> None:
    """What the prompts of each benchmark, and the seeds, can tell apart."""
    for text in smallest_differences(sweep):
        console.print(text, highlight=False, soft_wrap=True)


def _show_judging(console: Console, graph: SweepGraph, store: Store) -> None:
    costs = judging_costs(graph, store, foreseen_cost)
    expected = judging_costs(graph, store, expected_cost)
    for benchmark, cost in costs.items():
        console.print(f"judging {benchmark}: {cost}", highlight=False, soft_wrap=True)
    if not costs:
        console.print("judge calls: 0, money: 0 (embedded benchmarks)")
        return
    amounts = [sum_costs(several.values()).usd for several in (expected, costs)]
    if None not in amounts:
        expected_usd, most_usd = (usd_text(amount or 0.0) for amount in amounts)
        text = (
            f"judging together: {sum_costs(costs.values()).calls:,} calls, {expected_usd} expected, {most_usd} at most"
        )
        console.print(text, highlight=False, soft_wrap=True)


def _show_missing(console: Console, missing: Sequence[str]) -> None:
    if missing:
        console.print("\nto run it, this machine lacks (until then the keys are provisional):", highlight=False)
        for problem in missing:
            in_one_line = problem.replace("\n  - ", " ").replace("\n", "; ")
            console.print(f"  - {escape(in_one_line)}", highlight=False, soft_wrap=True)


def _show_local_time(console: Console, sweep: Sweep, graph: SweepGraph, store: Store, stored: set[str]) -> None:
    """The time on this machine: by the durations of stored stages, else by speeds, where the model's size is known."""
    left_s = estimate_duration_s(graph, store, sweep_workers(sweep), stored)
    if left_s is not None:
        console.print(f"time: about {format_duration(left_s)} on this machine", highlight=False)
    elif all(model.folder for model in graph.base_models.values()):
        threads = max(node.runtime.threads for node in graph.nodes.values())
        place = ProcessorPlace(threads, max(sweep_workers(sweep), 1))
        show_local_cost(console, sweep_cost(graph, store, place, stored))
    else:
        console.print("time: not known before stages of every kind have run once", highlight=False)


def plan_table(plans: Sequence[StagePlan]) -> Table:
    """The plan as a table, one row per stage."""
    table = Table(title="Stage runs", title_justify="left")
    table.add_column("stage", no_wrap=True)
    columns = ("without sharing", "needed", "of them shared", "already stored", "to run", "tokens at most")
    for name in columns:
        table.add_column(name, justify="right")
    order = {stage: position for position, stage in enumerate(STAGE_NAMES)}
    for plan in sorted(plans, key=lambda plan: order[plan.stage]):
        numbers = (plan.unshared, plan.distinct, plan.shared, plan.stored, plan.to_run)
        table.add_row(plan.stage, *map(str, numbers), f"{plan.tokens:,}" if plan.tokens else "")
    sums = [
        sum(getattr(plan, name) for plan in plans) for name in ("unshared", "distinct", "shared", "stored", "to_run")
    ]
    table.add_section()
    table.add_row("all", *map(str, sums), f"{sum(plan.tokens for plan in plans):,}")
    return table
