"""A sweep of 1,000 trials: the time of its plan, of a run with nothing to compute, and of each trial that ends.

    python perf/scale.py [--trials 1000] [--iterations 20]

Artifacts are made up and the store lies in memory where there is /dev/shm, so that what is measured is this program
and not models or a disk. A trial's time is that of a whole run of one iteration without the time its stages take;
its ratio says how it grows from a tenth of the trials to all of them: 1 is linear, 10 would be quadratic.
Times are of the processor, which other programs do not change; the clock's stand beside them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from made_up_store import MakeUpExecutor

from aipo_lab.console.plan_view import show_plan
from aipo_lab.core.store import Store
from aipo_lab.sweeps.study import Study, StudyListener
from aipo_lab.sweeps.sweep import Sweep, load_sweep

PLAN_LIMIT_S = 10.0
Result = TypeVar("Result")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--iterations", type=int, default=20)
    arguments = parser.parse_args()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        folder = Path(name)
        plan_s = plan_time(folder, arguments.trials, arguments.iterations)
        few_ms, _ = trial_time(folder, max(2, arguments.trials // 10))
        many_ms, again_s = trial_time(folder, arguments.trials)
    print(f"ratio plan_of_limit = {plan_s / PLAN_LIMIT_S:.3f}")
    print(f"ratio trial_time_growth = {many_ms / few_ms:.3f}")
    print(f"ratio nothing_to_do_per_trial = {1e3 * again_s / arguments.trials / many_ms:.3f}")


def plan_time(folder: Path, n_trials: int, iterations: int) -> float:
    """Seconds from the sweep file to the printed plan, on an empty store."""
    file = sweep_file(folder, n_trials, iterations)

    def plan() -> None:
        show_plan(load_sweep(file), folder / "empty")

    with (folder / "plan.txt").open("w") as written:
        shown, sys.stdout = sys.stdout, written
        try:
            seconds, clock_s, _ = timed(plan)
        finally:
            sys.stdout = shown
    print(f"plan of {n_trials} trials x {iterations} iterations: {seconds:.1f} s (clock {clock_s:.1f} s)", flush=True)
    return seconds


def trial_time(folder: Path, n_trials: int) -> tuple[float, float]:
    """Milliseconds that an ended trial costs beside its stages, and the seconds of a run with nothing to compute."""
    sweep = load_sweep(sweep_file(folder, n_trials, 1))
    store = Store(folder / f"store-{n_trials}")
    executor = MakeUpExecutor(store)
    first_s = run(sweep, store, folder / f"out-{n_trials}", executor)
    trial_ms = 1e3 * (first_s - executor.busy_s) / n_trials
    again_s = run(sweep, store, folder / f"out-{n_trials}", executor)
    print(f"{n_trials} trials: {trial_ms:.2f} ms each beside their stages; again with all stored: {again_s:.1f} s")
    return trial_ms, again_s


def run(sweep: Sweep, store: Store, out: Path, executor: MakeUpExecutor) -> float:
    study = Study.open(sweep, store, out, out.parent)
    seconds, _, rows = timed(lambda: study.run(lambda: executor, StudyListener()))
    assert all(row.state == "complete" for row in rows)
    return seconds


def sweep_file(folder: Path, n_trials: int, iterations: int) -> Path:
    """Trials that share little: every seed has its own prompts, responses and pairs."""
    betas = [round(0.01 * (k + 1), 2) for k in range(10)]
    space = [{"objective": "dpo", "beta": betas, "seed": list(range(-(-n_trials // 10)))}]
    path = folder / f"{n_trials}x{iterations}.yaml"
    path.write_text(yaml.safe_dump({"name": "scale", "recipe": {"iterations": iterations}, "space": space}))
    return path


def timed(action: Callable[[], Result]) -> tuple[float, float, Result]:
    """Seconds of all this process's threads on the processor, seconds by the clock, and the result."""
    started_s, clock_s = time.process_time(), time.monotonic()
    result = action()
    return time.process_time() - started_s, time.monotonic() - clock_s, result


if __name__ == "__main__":
    main()
