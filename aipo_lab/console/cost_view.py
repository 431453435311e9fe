"""What `aipo-lab plan` shows of time and disk, on GPUs or this machine, and the figures they were reckoned with."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from aipo_lab.console.time_left import format_duration
from aipo_lab.sweeps.costs import DiskUse, GpuPlace, ProcessorPlace, StageCost, SweepCost
from aipo_lab.sweeps.throughputs import throughputs

GB = 1e9


def show_cost(console: Console, cost: SweepCost) -> None:
    """Print the table and the totals."""
    console.print(cost_table(cost))

    def line(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    line(f"GPU-hours: {cost.device_s / 3600:,.0f} expected, {cost.most_device_s / 3600:,.0f} at most")
    line(
        f"wall time: {format_duration(cost.wall_s)} expected, {format_duration(cost.most_wall_s)} at most, with "
        f"{cost.place.count} {cost.place.kind} kept busy as far as stages wait for each other"
    )
    line(disk_text(cost.disk))
    for text in assumptions(cost):
        line(f"  {text}")


def show_local_cost(console: Console, cost: SweepCost) -> None:
    """Print the time on this machine's processor, and where its speeds are from."""
    assert isinstance(cost.place, ProcessorPlace)
    threads = f"{cost.place.count} x {cost.place.threads} thread{'s' if cost.place.threads > 1 else ''}"
    text = f"time: about {format_duration(cost.wall_s)} on this machine ({threads}), at most "
    console.print(text + format_duration(cost.most_wall_s), highlight=False, soft_wrap=True)
    console.print(disk_text(cost.disk), highlight=False, soft_wrap=True)
    for stage in cost.stages:
        if stage.tokens:
            expected, most = (format_duration(seconds) for seconds in (stage.device_s, stage.most_device_s))
            text = f"  {stage.stage}: {expected}, at most {most}; speed from {'; '.join(stage.figures)}"
            console.print(text, highlight=False, soft_wrap=True)
    if any("table" in stage.figures for stage in cost.stages):
        for name, figure in throughputs().processor.gflops.items():
            console.print(
                f"  {name}: {figure.value:g} GFLOP/s a thread; {figure.source}", highlight=False, soft_wrap=True
            )


def disk_text(disk: DiskUse) -> str:
    """What a sweep leaves behind, in one line."""
    return (
        f"disk: {size_text(disk.checkpoints)} for {disk.n_checkpoints} checkpoints, all of them kept, and "
        f"{size_text(disk.texts)} of texts; trainings under way hold up to {size_text(disk.trainings)} more"
    )


def cost_table(cost: SweepCost) -> Table:
    """One row per stage that is left to run."""
    assert isinstance(cost.place, GpuPlace)
    gpu = cost.place.gpu
    title = f"On {cost.place.count} {cost.place.kind} ({gpu.peak_tflops:g} TFLOP/s bf16, {gpu.memory_gib:g} GiB each)"
    table = Table(title=title, title_justify="left")
    table.add_column("stage", no_wrap=True)
    for name in ("to run", "GPUs", "tokens expected", "at most", "GPU-hours", "at most"):
        table.add_column(name, justify="right")
    table.add_column("speed from", overflow="fold")
    for stage in cost.stages:
        table.add_row(*_row(stage))
    return table


def _row(stage: StageCost) -> list[str]:
    hours = [f"{seconds / 3600:,.1f}" if seconds else "" for seconds in (stage.device_s, stage.most_device_s)]
    tokens = [_count_text(n) for n in (stage.tokens, stage.most_tokens)]
    return [stage.stage, str(stage.runs), str(stage.devices or ""), *tokens, *hours, "; ".join(stage.figures)]


def assumptions(cost: SweepCost) -> Iterable[str]:
    """The figures behind an estimate that was not all measured, each with its source."""
    yield "at most: every text as long as its cap; expected: mean lengths, which training may make longer"
    assert isinstance(cost.place, GpuPlace)
    table, used = throughputs(), {stage.stage for stage in cost.stages}
    if any("table" in stage.figures for stage in cost.stages):
        yield f"{cost.place.kind}: {cost.place.gpu.generate:.0%} of its peak in writing; {cost.place.gpu.source}"
        for name, figure in table.shares.items():
            yield f"{name}: {figure.value:.0%} of the peak; {figure.source}"
    lengths = {"instruct": ("prompt", "instruction"), "respond": ("response",)}
    for stage, names in lengths.items():
        for name in names if stage in used else ():
            yield f"{name}: {table.lengths[name].value:g} tokens; {table.lengths[name].source}"
    for name, figure in table.yields.items():
        yield f"kept by {name}: {figure.value:.0%}; {figure.source}"


def size_text(n_bytes: float) -> str:
    """Bytes in the unit that makes them readable: 24.5 GB, 7.3 TB."""
    return f"{n_bytes / GB / 1000:,.1f} TB" if n_bytes >= 1000 * GB else f"{n_bytes / GB:,.1f} GB"


def _count_text(tokens: float) -> str:
    if tokens >= 1e9:
        return f"{tokens / 1e9:,.1f}G"
    return f"{tokens / 1e6:,.1f}M" if tokens else ""
