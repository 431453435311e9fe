"""The documentation: its links lead somewhere, its commands exist, its first tutorial runs as it is written."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from aipo_lab.cli import main
from aipo_lab.results.rows import read_results
from aipo_lab.sweeps.sweep import load_sweep

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SMALL = (
    "model.micro.steps=40",
    "model.micro.batch_size=32",
    "model.micro.documents_per_step=8",
    "model.micro.hidden_size=64",
    "model.micro.layers=1",
    "respond.sampling.max_new_tokens=24",
    "benchmarks.micro.sampling.max_new_tokens=24",
    "train.batch_size=8",
)
"""Keeps the tutorial's world small; not part of what it shows."""


def by_name(path: Path) -> str:
    return path.name


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]*)(?:#[^)\s]*)?\)", page.read_text(encoding="utf-8")):
        if target and "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]*)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert anchor in anchors_of(page.parent / target if target else page), f"{page.name}: #{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_every_command_exists(page: Path) -> None:
    for line in re.findall(r"`aipo-lab ([^`\n]+)`|^\$ (?:\S*/)?aipo-lab (.+)$", page.read_text("utf-8"), re.MULTILINE):
        words = (line[0] or line[1]).split()
        command: click.Command | None = main
        while isinstance(command, click.Group) and words and re.fullmatch(r"[a-z][a-z-]*", words[0]):
            command = command.commands.get(words.pop(0))
        assert command is not None, f"{page.name}: aipo-lab {line[0] or line[1]}"
        known = {name for option in command.params for name in option.opts + option.secondary_opts}
        used = {word.split("=")[0].rstrip(",;.]") for word in words if re.match(r"\[?--[a-z]", word)}
        assert {name.lstrip("[") for name in used} <= known | {"--help"}, f"{page.name}: aipo-lab {line[0] or line[1]}"


def test_every_page_is_in_the_site() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    parts = [value for part in site["nav"] for value in part.values()]
    named = [page for part in parts for page in ([part] if isinstance(part, str) else part)]
    assert sorted(named) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_the_readme_is_a_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 200
    assert text.count("![") == 1


def test_environment_variables_of_our_own_are_documented() -> None:
    text = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "aipo_lab").rglob("*.py"))
    internal = {"AIPO_LAB_OFFLINE_HUB"}
    assert set(re.findall(r"AIPO_LAB_[A-Z_]+[A-Z]", code)) - internal <= set(re.findall(r"`(\w+)`", text))


def test_the_first_tutorial_runs_as_it_is_written(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "first-sweep.md").read_text(encoding="utf-8")
    ((name, content),) = re.findall(r"^```yaml\n# (\S+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / name).write_text(content)
    load_sweep(tmp_path / name, check=True)
    said = {}
    for command in re.findall(r"^\$ aipo-lab (.*)$", page, re.MULTILINE):
        small = [f"--set={one}" for one in SMALL] if name in command else []
        quiet = ["--tracker", "none"] if command.startswith("sweep ") else []
        words = [sys.executable, "-m", "aipo_lab", *shlex.split(command), *small, *quiet]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "160"}
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, command + done.stdout + done.stderr
        said[command.split()[0]] = done.stdout  # of `plan` the second, after the sweep
    rows = read_results(tmp_path / "runs" / "first" / "results.csv")
    assert {(row.iteration, row.state) for row in rows} == {(t, "complete") for t in range(3)}
    assert "judge of micro of iteration 2" in said["lineage"]
    assert "learning_rate is 0.0001 instead of" in said["why"]
    assert "already stored" in said["plan"]
