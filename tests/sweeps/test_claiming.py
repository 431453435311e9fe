"""A folder belongs to one sweep: others get another folder, or are refused where the user named it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from aipo_lab.core.errors import UserError
from aipo_lab.core.store import Store
from aipo_lab.sweeps.claiming import sweep_id
from aipo_lab.sweeps.folder import SweepFolder
from aipo_lab.sweeps.plan import build_graph
from aipo_lab.sweeps.study import Study
from aipo_lab.sweeps.sweep import Sweep, single_run

ONE = single_run("micro")
OTHER = single_run("micro", [("seed", 1)])


def identity(sweep: Sweep) -> str:
    return sweep_id(sweep.name, build_graph(sweep))


def start(sweep: Sweep, folder: Path, out: Path | None = None, said: list[str] | None = None) -> Path:
    """Start a sweep below `folder` as the command does; the folder it got."""
    say: Callable[[str], None] = (lambda _: None) if said is None else said.append
    return Study.open(sweep, Store(folder / "store"), out, folder, say).folder.path


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_the_same_sweep_keeps_its_folder(tmp_path: Path) -> None:
    assert start(ONE, tmp_path) == tmp_path / "micro-dpo"
    assert start(ONE, tmp_path) == tmp_path / "micro-dpo"
    assert start(ONE, tmp_path, tmp_path / "micro-dpo") == tmp_path / "micro-dpo"


@pytest.mark.parametrize(
    "setting",
    [("compute.workers", 7), ("compute.threads", 2), ("compute.device", "cuda"), ("compute.checkpoint_interval_s", 1)],
)
def test_where_and_how_fast_it_is_computed_makes_no_other_sweep(tmp_path: Path, setting: tuple[str, object]) -> None:
    start(ONE, tmp_path)
    assert start(single_run("micro", [setting]), tmp_path) == tmp_path / "micro-dpo"
    assert start(single_run("micro", [setting]), tmp_path, tmp_path / "micro-dpo") == tmp_path / "micro-dpo"


def test_other_settings_get_a_folder_of_their_own_and_it_is_said(tmp_path: Path) -> None:
    start(ONE, tmp_path)
    before, said = files(tmp_path / "micro-dpo"), []
    own = tmp_path / f"micro-dpo-{identity(OTHER)[:8]}"
    assert start(OTHER, tmp_path, said=said) == own
    assert "holds the results of other settings" in said[0] and str(own) in said[0]
    with pytest.raises(UserError, match=r"holds the results of other settings .* choose another with --out"):
        start(OTHER, tmp_path, tmp_path / "micro-dpo")
    assert files(tmp_path / "micro-dpo") == before


def test_a_summary_alone_still_says_whose_folder_it_is(tmp_path: Path) -> None:
    start(ONE, tmp_path)
    (tmp_path / "micro-dpo" / "sweep.yaml").unlink()
    assert start(ONE, tmp_path) == tmp_path / "micro-dpo"
    (tmp_path / "micro-dpo" / "sweep.yaml").unlink()
    assert start(OTHER, tmp_path) != tmp_path / "micro-dpo"


@pytest.mark.parametrize("names", [("results.csv",), ("thesis.tex", "data/x"), ("report.html", "figures/a.png")])
def test_a_folder_with_other_files_is_never_taken_over(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / "micro-dpo" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "micro-dpo" / name).write_text("mine")
    (tmp_path / "store").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=r"micro-dpo is not empty and holds no sweep .* choose another with --out"):
        start(ONE, tmp_path, tmp_path / "micro-dpo")
    assert sorted(tmp_path.rglob("*")) == before
    said: list[str] = []
    assert start(ONE, tmp_path, said=said) == tmp_path / f"micro-dpo-{identity(ONE)[:8]}"
    assert "is not empty" in said[0]


def test_a_folder_of_an_earlier_version_is_not_taken_over(tmp_path: Path) -> None:
    folder = start(ONE, tmp_path)
    values = yaml.safe_load((folder / "sweep.yaml").read_text())
    del values["id"]
    (folder / "sweep.yaml").write_text(yaml.safe_dump(values))
    before = files(folder)
    with pytest.raises(UserError, match="earlier version of aipo-lab"):
        start(ONE, tmp_path, folder)
    assert start(ONE, tmp_path) != folder
    assert files(folder) == before


@pytest.mark.parametrize("name", ["sweep.yaml", "summary.json"])
@pytest.mark.parametrize("content", [b"", b"id: [", b'{"sweep_id": ', b"\xff\xfe\x00", b"- 1\n- 2\n", b"{}", b"null"])
def test_a_broken_file_is_named_with_the_next_step_and_nothing_is_written(
    tmp_path: Path, name: str, content: bytes
) -> None:
    folder = start(ONE, tmp_path)
    (folder / name).write_bytes(content)
    before = files(folder)
    for out in (None, folder):
        with pytest.raises(UserError, match=rf"{name} is damaged, .*run the .*") as error:
            start(ONE, tmp_path, out)
        assert str(folder / name) in str(error.value)
    with pytest.raises(UserError, match=f"{name} is damaged"):
        Study.reopen(SweepFolder(folder))
    assert files(folder) == before


def test_the_store_may_lie_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "store" / "base").mkdir(parents=True)
    assert start(ONE, tmp_path, tmp_path) == tmp_path


STARTER = """
import sys
from pathlib import Path
from aipo_lab.core.errors import UserError
from aipo_lab.core.store import Store
from aipo_lab.sweeps.study import Study
from aipo_lab.sweeps.sweep import single_run

seed, folder = int(sys.argv[1]), Path(sys.argv[2])
sweep = single_run("micro", [("seed", seed)])
from aipo_lab.sweeps.plan import build_graph
build_graph(sweep)  # so that nothing is left to import
print("ready", flush=True)
for line in sys.stdin:
    name, given = line.split()
    runs = folder / name
    try:
        got = Study.open(sweep, Store(folder / "store"), runs / "out" if given == "out" else None, runs).folder.path
        print(got.name, flush=True)
    except UserError as error:
        print("refused" if "other settings" in str(error) else repr(error), flush=True)
"""


NO_LOCKS = """
import errno, fcntl
def refuse(*_):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = fcntl.lockf = refuse
"""


@pytest.mark.parametrize(("without", "rounds"), [("", 25), (NO_LOCKS, 10)], ids=["locks", "no locks"])
def test_different_sweeps_started_at_once_never_share_a_folder(tmp_path: Path, without: str, rounds: int) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", without + STARTER, str(seed), str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        for seed in (0, 1, 0)
    ]
    ids = [identity(single_run("micro", [("seed", seed)]))[:8] for seed in (0, 1, 0)]

    def round_of(number: int, given: str) -> list[str]:
        for process in processes:
            process.stdin.write(f"round{number} {given}\n")
        return [process.stdout.readline().strip() for process in processes]

    try:
        assert [process.stdout.readline().strip() for process in processes] == ["ready"] * 3
        for number in range(rounds):
            zero, one, again = round_of(number, "default")
            assert zero == again != one
            assert {zero, one} in ({"micro-dpo", f"micro-dpo-{ids[1]}"}, {"micro-dpo", f"micro-dpo-{ids[0]}"})
            saved = SweepFolder(tmp_path / f"round{number}" / zero).load_summary()
            assert saved is not None and saved.sweep_id.startswith(ids[0])
        for number in range(rounds, 2 * rounds):
            zero, one, again = round_of(number, "out")
            assert zero == again and {zero, one} == {"out", "refused"}
    finally:
        for process in processes:
            process.stdin.close()
            process.wait(timeout=30)
