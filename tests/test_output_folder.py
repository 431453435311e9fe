"""The output folder as a user meets it: odd names, lost stores, moved folders, full disks, impatient Ctrl-C."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tiny_sweep import RECIPE, environment

AIPO_LAB = str(Path(sys.executable).with_name("aipo-lab"))
ODD = "a b?x#y%25z'[red]:smile:"
SPACE = [{"objective": "dpo", "beta": [0.1]}, {"objective": "simpo", "gamma": [0.5]}]

NO_FLOCK = """
import errno, fcntl, os
real = fcntl.flock
def flock(file, operation):
    number = file if isinstance(file, int) else file.fileno()
    if "/no-locks/" in os.readlink(f"/proc/self/fd/{number}"):
        raise OSError(getattr(errno, os.environ["FLOCK_ERRNO"]), "not here")
    return real(file, operation)
fcntl.flock = flock
"""


def run(*arguments: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [AIPO_LAB, *map(str, arguments)],
        cwd=cwd,
        env=environment() | variables,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of an odd name, with a finished sweep in `runs/`."""
    folder = tmp_path_factory.mktemp("output") / ODD
    folder.mkdir()
    recipe = RECIPE | {"iterations": 1, "compute.workers": 1}
    (folder / "tiny.yaml").write_text(yaml.safe_dump({"name": "tiny", "recipe": recipe, "space": SPACE}))
    done = run("sweep", "tiny.yaml", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in folder.iterdir()} == {"tiny.yaml", "runs"}
    assert [path.name for path in folder.parent.iterdir()] == [ODD]
    assert (folder / "runs" / "tiny" / "mlflow.db").is_file()
    return folder


@pytest.fixture
def copy(place: Path, tmp_path: Path) -> Path:
    """The finished sweep and its store, copied somewhere else."""
    shutil.copytree(place / "runs", tmp_path / "runs")
    return tmp_path / "runs" / "tiny"


def content(folder: Path) -> dict[str, bytes]:
    files = ("results.csv", "report.html", "figures/pareto_micro.png", "figures/pareto_micro.pdf")
    return {name: (folder / name).read_bytes() for name in files}


def test_a_moved_runs_folder_uses_the_store_beside_it(copy: Path) -> None:
    assert yaml.safe_load((copy / "sweep.yaml").read_text())["store"] == "../store"
    status = run("status", copy, cwd=copy.parent)
    assert status.returncode == 0 and "16 of 16 stages stored" in status.stdout
    shutil.rmtree(copy.parent / "store" / "judge")
    status = run("status", copy, cwd=copy.parent)
    assert "of 16 stages stored" in status.stdout and "16 of 16" not in status.stdout  # the copy's, not the original


def lose_the_store(copy: Path) -> Path:
    """Move the store away, for good: also where it was before the copy."""
    saved = yaml.safe_load((copy / "sweep.yaml").read_text())
    (copy / "sweep.yaml").write_text(yaml.safe_dump(saved | {"store_absolute": "/nowhere"}))
    return (copy.parent / "store").rename(copy.parent / "elsewhere")


def test_without_the_store_report_and_status_keep_every_result_and_say_what_is_missing(copy: Path) -> None:
    store, before = lose_the_store(copy), content(copy)
    for name in ("status", "report", "report"):
        done = run(name, copy, cwd=copy.parent)
        assert done.returncode == 0
        assert "lacks what 4 of 4 rows were made from; they are kept" in done.stdout and "--store" in done.stdout
        assert content(copy) == before
    status = run("status", copy, "--store", store, cwd=copy.parent)
    assert "16 of 16 stages stored" in status.stdout and "lacks" not in status.stdout
    (copy / "results.csv").unlink()
    assert "lacks results of this finished sweep" in run("report", copy, cwd=copy.parent).stdout
    assert (copy / "report.html").read_bytes() == before["report.html"]
    done = run("report", copy, "--store", store, cwd=copy.parent)
    assert "lacks" not in done.stdout
    assert (copy / "results.csv").read_bytes() == before["results.csv"]


def test_a_store_that_lost_a_part_costs_no_row(copy: Path) -> None:
    lose_the_store(copy).rename(copy.parent / "store")
    before = (copy / "results.csv").read_bytes()
    for lost in sorted((copy.parent / "store" / "judge").iterdir())[:2]:  # of three, one is the noise floor's
        shutil.rmtree(lost)
    done = run("report", copy, cwd=copy.parent)
    assert done.returncode == 0 and "rows were made from; they are kept" in done.stdout
    assert (copy / "results.csv").read_bytes() == before


@pytest.mark.parametrize("damage", ["cut", "cut at a cell", "empty", "foreign", "nan"])
def test_a_broken_table_of_results_is_named_and_left_alone(copy: Path, damage: str) -> None:
    path = copy / "results.csv"
    text = path.read_text()
    broken = {
        "cut": text[:-30],
        "cut at a cell": text[: text.rindex(",")] + "\n",
        "empty": "",
        "foreign": "name,age\nx,3\n",
        "nan": text.replace("\n", ",micro/x\n", 1).replace("\n", ",nan\n").replace(",micro/x,nan\n", ",micro/x\n"),
    }[damage]
    path.write_text(broken)
    for name in ("status", "report"):
        done = run(name, copy, cwd=copy.parent)
        assert done.returncode == 2
        assert "results.csv is damaged, or not a table of results" in done.stderr and "move it" in done.stderr
    assert path.read_text() == broken


@pytest.mark.parametrize("number", ["EOPNOTSUPP", "ENOSYS"])
def test_a_filesystem_without_locks_will_do(place: Path, tmp_path: Path, number: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_FLOCK)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    out = tmp_path / "no-locks" / "out"
    for _ in range(2):
        done = run("sweep", "tiny.yaml", "--out", out, cwd=place, PYTHONPATH=path, FLOCK_ERRNO=number)
        assert done.returncode == 0 and "another process" not in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("size", ["4k", "24k", "1m"])
def test_a_full_disk_under_the_output_folder_loses_nothing(place: Path, tmp_path: Path, size: str) -> None:
    (tmp_path / "full").mkdir()
    inside = f"mount -t tmpfs -o size={size} tmpfs {tmp_path}/full && " + '"$0" "$@"; code=$?; ls -A $5; exit $code'
    command = ["unshare", "-rm", "sh", "-c", inside, AIPO_LAB, "sweep", "tiny.yaml", "--out", f"{tmp_path}/full/out"]
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no filesystem can be mounted here")
    done = subprocess.run(command, cwd=place, env=environment(), capture_output=True, text=True, timeout=240)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "No space left on device" in said and "Traceback" not in said
    assert "nothing finished is lost" in said or "all results are in the store" in said


@pytest.mark.parametrize("pause_s", [0.0, 0.05, 0.5])
def test_a_second_ctrl_c_ends_at_once_and_leaves_no_process(place: Path, tmp_path: Path, pause_s: float) -> None:
    store = tmp_path / "store"
    process = subprocess.Popen(
        [AIPO_LAB, "sweep", str(place / "tiny.yaml"), "--store", str(store)],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline_s = time.monotonic() + 120
        while not list(store.glob("*/.work-*")) and time.monotonic() < deadline_s:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        time.sleep(pause_s)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, output
    assert "nothing finished is lost" in output and "Traceback" not in output and "Exception" not in output
    deadline_s = time.monotonic() + 5
    while left := processes_on(store):
        assert time.monotonic() < deadline_s, left
        time.sleep(0.05)


def processes_on(store: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(store) in text:
            found.append(text)
    return found
