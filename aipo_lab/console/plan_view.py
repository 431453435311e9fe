"""What `aipo-lab plan` shows: trials, stage runs shared and stored, tokens, judge calls, money, time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from aipo_lab.console.time_left import format_duration
from aipo_lab.core.store import Store
from aipo_lab.stages.definition import STAGE_NAMES
from aipo_lab.stages.stored import find_stored
from aipo_lab.sweeps.plan import StagePlan, build_graph, estimate_duration_s, plan_stages, sweep_workers
from aipo_lab.sweeps.plan_judging import judging_costs
from aipo_lab.sweeps.sweep import Sweep


def show_plan(sweep: Sweep, store_root: Path) -> None:
    """Print what a sweep would do."""
    console = Console()
    store = Store(store_root)
    graph = build_graph(sweep)
    stored = find_stored(graph.nodes.values(), store)
    plans = plan_stages(graph, store, stored)
    trials = Table(title=f"{sweep.name}: {len(sweep.trials)} trials, profile {sweep.profile}", title_justify="left")
    trials.add_column("trial", overflow="fold")
    trials.add_column("objective")
    trials.add_column("settings")
    trials.add_column("iterations", justify="right")
    for trial in sweep.trials:
        settings = " ".join(f"{name}={value}" for name, value in trial.hyperparameters().items())
        trials.add_row(trial.name, trial.objective, settings, str(trial.recipe.iterations))
    console.print(trials)
    console.print(plan_table(plans))
    saved = sum(plan.unshared - plan.distinct for plan in plans)
    console.print(f"sharing saves {saved} stage runs")
    costs = judging_costs(graph, store)
    for benchmark, cost in costs.items():
        console.print(f"judging {benchmark}: {cost}", highlight=False, soft_wrap=True)
    if not costs:
        console.print("judge calls: 0, money: 0 (embedded benchmarks)")
    left_s = estimate_duration_s(graph, store, sweep_workers(sweep), stored)
    console.print(
        "time: not known before stages of every kind have run once"
        if left_s is None
        else f"time: about {format_duration(left_s)} on this machine",
        highlight=False,
    )


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
