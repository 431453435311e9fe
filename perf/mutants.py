"""Mutation testing: small faults put into the code, one at a time; which of them does no test notice?

    make mutants                     # all packages
    make mutants ONLY="objectives"   # some of them
    make mutants ONLY="store --sample 100 --seed 1"   # a random sample of them, drawn alike each time

mutmut makes the faults, in a copy under build/mutants/, on lines that the package's fast tests reach; those tests alone
are run, one at a time. The command ends with a line a package, `score <package> = <percent caught> (<caught> of <tried>
tried)`; the names of what survived stand above it, and `cd build/mutants/<package> && mutmut show NAME` prints one. A
sample is drawn from all mutants that a test reaches, so its score estimates that of the whole package.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "mutants"
COPIED = ("aipo_lab", "tests", "sweeps", "perf", "README.md")
CAUGHT_CODES = frozenset({1, 3, 24, 36, 152, 255, -24, -9, -11})
"""mutmut's codes of mutants that a test failed on, or that never ended (a fault one notices, too)."""
UNTESTED_CODES = frozenset({5, 33, 34})
"""No test reaches it, or it was skipped."""
NO_MUTANT = "no mutant has this name"
"""Given to mutmut it makes the mutants, learns which tests reach them, and stops."""

# A test run starts with imports of 10 s on a busy machine, and one that runs out of time counts as caught.
CONFIG = """[mutmut]
source_paths=
    aipo_lab
only_mutate=
    {files}
pytest_add_cli_args_test_selection=
    {tests}
pytest_add_cli_args=
    -p
    no:cacheprovider
    -m
    not slow
also_copy=
    sweeps
    perf
    README.md
mutate_only_covered_lines=true
process_isolation=forkserver
timeout_multiplier=4
timeout_constant=60
do_not_mutate_patterns=
    raise \\w+
    Field\\(
"""


@dataclass(frozen=True)
class Package:
    """Files to mutate and the fast tests that are to notice."""

    files: tuple[str, ...]
    tests: tuple[str, ...]


PACKAGES = {
    "objectives": Package(("aipo_lab/objectives/*",), ("tests/objectives",)),
    "training": Package(
        tuple(
            f"aipo_lab/training/{name}.py"
            for name in (
                "batches",
                "packing",
                "updates",
                "pairs",
                "token_tree",
                "config",
                "checkpoint",
                "record",
                "loop",
            )
        ),
        tuple(
            f"tests/training/test_{name}.py"
            for name in ("batches", "packing_edges", "updates_edges", "loop", "loop_edges", "record", "checkpoint")
        ),
    ),
    "store": Package(("aipo_lab/core/*",), ("tests/core",)),
    "judging": Package(
        tuple(
            f"aipo_lab/judging/{name}.py"
            for name in ("money", "pacing", "ledger", "replies", "settings", "store", "call_file", "claims")
        ),
        tuple(
            f"tests/judging/test_{name}.py"
            for name in ("money", "pacing", "ledger", "call_store", "settings", "replies", "reply_damage")
        ),
    ),
}


def main() -> int:
    """Run mutmut on the named packages; returns 1 if it could not run on one."""
    parser = argparse.ArgumentParser(description="mutation testing, a package at a time")
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help=f"of {', '.join(PACKAGES)}; default all")
    parser.add_argument(
        "--mutants", action="append", default=[], metavar="PATTERN", help="only mutants of such names: '*packing*'"
    )
    parser.add_argument("--sample", type=int, metavar="N", help="only N mutants of each package, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the sample; default 0")
    parser.add_argument("--continue", dest="keep", action="store_true", help="keep what an interrupted run found out")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.packages) - set(PACKAGES))
    if unknown:
        parser.error(f"unknown package {unknown[0]!r}; known: {', '.join(PACKAGES)}")
    if arguments.sample is not None and (arguments.sample < 1 or arguments.mutants):
        parser.error("--sample takes a number of at least 1, and not together with --mutants")
    lines = [run(name, arguments) for name in arguments.packages or PACKAGES]
    print("\n".join(lines))
    return int(any("failed" in line for line in lines))


def run(name: str, arguments: argparse.Namespace) -> str:
    """Mutate one package; prints its survivors and returns its line of the summary."""
    folder = WORK / name
    if not arguments.keep:  # mutmut would keep which tests reach what too, though code and tests have changed since
        shutil.rmtree(folder, ignore_errors=True)
    prepare(folder, PACKAGES[name])
    names = arguments.mutants
    if arguments.sample is not None:
        code = mutmut(folder, [NO_MUTANT])
        names = sampled(reachable(folder / "mutants"), arguments.sample, arguments.seed)
        if not names:
            return f"score {name} failed (exit code {code}); see {folder / 'mutmut.log'}"
    code = mutmut(folder, names)
    codes = {mutant: code for mutant, code in tested(folder / "mutants") if arguments.sample is None or mutant in names}
    survivors = sorted(mutant for mutant, code in codes.items() if code not in CAUGHT_CODES)
    print("\n".join(f"survived: {mutant}" for mutant in survivors), flush=True)
    if not codes:
        return f"score {name} failed (exit code {code}); see {folder / 'mutmut.log'}"
    caught = len(codes) - len(survivors)
    return f"score {name} = {100 * caught / len(codes):.1f} % ({caught} of {len(codes)} tried)"


def mutmut(folder: Path, names: Sequence[str]) -> int:
    """Run mutmut on some mutants (none named: on all); returns its exit code. What it says is in `mutmut.log`."""
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", "1", *names]
    environment = {**os.environ, "PYTHONPATH": str(folder / "mutants"), "OMP_NUM_THREADS": "1"}
    with (folder / "mutmut.log").open("w", encoding="utf-8") as log:
        done = subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False)
    return done.returncode


def sampled(names: Sequence[str], n: int, seed: int) -> list[str]:
    """`n` of the names, or all if there are no more; the same ones for the same seed."""
    ordered = sorted(names)
    return sorted(random.Random(seed).sample(ordered, min(n, len(ordered))))


def reachable(folder: Path) -> list[str]:
    """The mutants of functions that a test runs; none if mutmut never came so far."""
    try:
        statistics = json.loads((folder / "mutmut-stats.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    reached = {name for name, tests in statistics["tests_by_mangled_function_name"].items() if tests}
    return [name for name, _ in all_mutants(folder) if name.partition("__mutmut_")[0] in reached]


def prepare(folder: Path, package: Package) -> None:
    """Bring the working copy of sources, tests and mutmut's settings up to date."""
    (folder / "mutants").mkdir(parents=True, exist_ok=True)  # Python forgets a search path that is missing at its start
    for entry in COPIED:
        source, target = ROOT / entry, folder / entry
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    for path in (path for pattern in package.files for path in folder.glob(pattern) if path.suffix == ".py"):
        path.write_text(without_decorators(path.read_text(encoding="utf-8")), encoding="utf-8")
    tests = [test for test in package.tests if (ROOT / test).exists()]
    text = CONFIG.format(files="\n    ".join(package.files), tests="\n    ".join(tests))
    (folder / "setup.cfg").write_text(text, encoding="utf-8")


def without_decorators(source: str) -> str:
    """The same module with `f = decorator(f)` after each decorated function, for mutmut leaves decorated ones alone.

    Every objective is decorated, by its registration.
    """
    lines = source.splitlines()
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.decorator_list]
    for node in reversed(functions):
        decorated = node.name
        for decorator in reversed(node.decorator_list):
            decorated = f"({ast.unparse(decorator)})({decorated})"
        lines.insert(node.end_lineno or node.lineno, f"{node.name} = {decorated}")
        del lines[node.decorator_list[0].lineno - 1 : node.lineno - 1]
    return "\n".join(lines) + "\n"


def tested(folder: Path) -> Iterator[tuple[str, int]]:
    """The mutants that tests reached, by name, with the exit code of their test run."""
    for mutant, code in all_mutants(folder):
        if code is not None and code not in UNTESTED_CODES:
            yield mutant, code


def all_mutants(folder: Path) -> Iterator[tuple[str, int | None]]:
    """All mutants by name, with the exit code of their test run, None before it."""
    for path in sorted(folder.rglob("*.meta")):
        yield from json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"].items()


if __name__ == "__main__":
    sys.exit(main())
