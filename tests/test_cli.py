"""The command line as a user meets it: bad input, help and the plan."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tiny_sweep import (
    AIPO_LAB,
    SWEEPS,
    planned,
    write_sweep,
)

from aipo_lab.cli import main


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a command in an empty folder of its own."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "160")

    def run_command(*arguments: str) -> Result:
        result = CliRunner().invoke(main, list(arguments))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run_command


def assert_refused(result: Result, *parts: str) -> None:
    assert result.exit_code == 2, result.output
    for part in parts:
        assert part in result.output, result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("train.bach_size=8", ("train.bach_size", "did you mean 'batch_size'", "learning_rate")),
        ("trian.batch_size=8", ("unknown key 'trian'", "did you mean 'train'")),
        ("train.batch_size=0", ("train.batch_size", "greater than or equal to 1", "0")),
        ("train.learning_rate=fast", ("train.learning_rate", "'fast'")),
        ("respond.n_candidates=1", ("respond.n_candidates", "greater than or equal to 2")),
        ("iterations=1.5", ("iterations", "1.5")),
        ("benchmarks.micro.n_prompts=100000", ("benchmarks.micro", "512")),
        ("objective.label_smoothing=0.7", ("label_smoothing = 0.7", "<= 0.5")),
        ("objective.beta=1", ("objective.beta is set by --set and swept here",)),
        ("world.name=macro", ("world.name", "unknown world 'macro'; did you mean 'micro'?")),
        ("train.batch_size", ("--set 'train.batch_size' is not of the form",)),
        ("train=5", ("it is a section", "train.batch_size")),
        ("train.batch_size=999", ("--set 'train.batch_size=999'", "train.batch_size: 999 pairs do not exist")),
        ("seed.x=5", ("seed is a value, not a section",)),
    ],
)
@pytest.mark.parametrize("name", ["sweep", "plan"])
def test_a_bad_setting_is_refused_before_any_work(call, tmp_path: Path, name: str, setting: str, parts: tuple) -> None:
    path = write_sweep(tmp_path)
    assert_refused(call(name, str(path), "--set", setting), *parts)
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        ({"space": [{"objective": "dpo", "beta": []}]}, ("beta: the grid is empty",)),
        ({"space": []}, ("space",)),
        ({"space": [{"objective": "simmpo"}]}, ("unknown objective 'simmpo'", "did you mean 'simpo'", "alpha_dpo")),
        ({"space": [{"objective": "dpo", "gamma": [1]}]}, ("unknown key 'gamma' for dpo", "valid: beta")),
        ({"space": [{"objective": "dpo", "beta": [-1]}]}, ("beta = -1", "must be > 0")),
        ({"profile": "huge"}, ("unknown profile 'huge'", "laptop, micro")),
        ({"selekt": "top_left"}, ("selekt", "did you mean 'select'")),
        ({"select": "max:"}, ("max:",)),
    ],
)
def test_a_bad_sweep_file_is_refused_before_any_work(call, tmp_path: Path, more: dict, parts: tuple) -> None:
    assert_refused(call("sweep", str(write_sweep(tmp_path, **more))), *parts)
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize("name", ["sweep", "plan"])
def test_a_missing_file_is_named(call, name: str) -> None:
    assert_refused(call(name, "none.yaml"), "sweep file not found", "none.yaml")
    assert not list(Path.cwd().iterdir())


def test_an_unknown_profile_on_the_command_line_lists_the_valid_ones(call, tmp_path: Path) -> None:
    assert_refused(call("sweep", str(write_sweep(tmp_path)), "--profile", "papper"), "unknown profile", "laptop, micro")
    assert_refused(call("run", "papper"), "'papper' is neither a profile (laptop, micro, paper")
    assert not list(Path.cwd().iterdir())


def test_an_unknown_executor_or_option_lists_the_valid_ones(call, tmp_path: Path) -> None:
    assert_refused(call("sweep", str(write_sweep(tmp_path)), "--executor", "slurm"), "slurm", "inline")
    assert_refused(call("sweep", str(write_sweep(tmp_path)), "--stor", "x"), "--stor", "--store")
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize("option", ["--out", "--store"])
def test_an_output_that_cannot_be_written_is_refused(call, tmp_path: Path, option: str) -> None:
    (tmp_path / "file").write_text("")
    below = tmp_path / "file" / "folder"
    assert_refused(call("sweep", str(write_sweep(tmp_path)), option, str(below)), "cannot write", str(below), option)
    assert not [path for path in Path.cwd().rglob("*") if path.is_file()]


def make_folder(path: Path, *names: str) -> None:
    path.mkdir()
    for name in names:
        (path / name).write_text('{"model_type": "llama"}' if name == "config.json" else "")


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        ((), ("config.json is missing", "no .safetensors file", "no tokenizer")),
        (("config.json", "tokenizer.json"), ("no .safetensors file",)),
        (("config.json", "tokenizer.json", "pytorch_model.bin"), ("pytorch_model.bin", "convert")),
        (("model.safetensors", "tokenizer.json"), ("config.json is missing",)),
        (("config.json", "model.safetensors"), ("no tokenizer",)),
    ],
)
def test_a_model_folder_that_is_none_is_refused_with_all_reasons(
    call, tmp_path: Path, files: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    make_folder(tmp_path / "model", *files)
    path = write_sweep(tmp_path)
    for name in ("plan", "sweep"):
        result = call(name, str(path), "--set", f"model.source={tmp_path / 'model'}")
        assert_refused(result, "is not a Hugging Face model folder", str(tmp_path / "model"), *parts)
        assert not list(Path.cwd().iterdir())


def test_a_model_that_does_not_exist_is_refused_with_the_choices(call, tmp_path: Path) -> None:
    result = call("sweep", str(write_sweep(tmp_path)), "--set", "model.source=./nowhere")
    assert_refused(result, "model.source './nowhere'", "micro", "smollm2-135m", "owner/name")
    (tmp_path / "weights.bin").write_text("")
    result = call("sweep", str(write_sweep(tmp_path)), "--set", f"model.source={tmp_path / 'weights.bin'}")
    assert_refused(result, "is a file; give the folder that holds config.json")
    assert not list(Path.cwd().iterdir())


def test_commands_on_a_folder_without_a_sweep_say_so(call, tmp_path: Path) -> None:
    for name in ("status", "report"):
        assert_refused(call(name, str(tmp_path)), f"{tmp_path} holds no sweep")
        assert_refused(call(name), "there is no sweep in runs/")
    assert_refused(call("ui", str(tmp_path)), "holds no MLflow database")
    assert not list(Path.cwd().iterdir())


def test_help_takes_less_than_half_a_second() -> None:
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run([AIPO_LAB, "--help"], capture_output=True, text=True, timeout=60)
        taken.append(time.perf_counter() - started)
        assert done.returncode == 0
    assert min(taken) < 0.5
    for name in ("sweep", "run", "plan", "status", "report", "doctor", "ui", "assets"):
        assert re.search(rf"^  {name} ", done.stdout, re.MULTILINE), name


@pytest.mark.parametrize("name", ["sweep", "run", "plan", "status", "report", "doctor", "ui"])
def test_every_command_explains_itself(call, name: str) -> None:
    result = call(name, "--help")
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 4


def test_the_plan_of_table_6_shows_that_iteration_0_is_shared(call) -> None:
    result = call("plan", str(SWEEPS / "table6.yaml"))
    assert result.exit_code == 0, result.output
    assert "table6: 20 trials, profile micro" in result.output
    assert planned(result.output)["base"] == (20, 1, 1, 0, 1)
    assert planned(result.output)["reference"] == (48, 33, 1, 0, 33)
    assert not list(Path.cwd().iterdir())
