"""The notebooks of analysis/ run on a fresh small sweep, show pictures, and are committed with what they showed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from small_sweep import SPACE, run_small_sweep

nbclient = pytest.importorskip("nbclient", reason="pip install 'aipo-lab[notebooks]'")
import nbformat  # noqa: E402

FOLDER = Path(__file__).parents[1] / "analysis"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notebooks")
    space = [*SPACE, {"objective": "dpo", "beta": [0.5]}]
    run_small_sweep(folder, space, analysis__similarity="words")
    return folder / "runs" / "tiny"


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_on_another_sweep(path: Path, sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIPO_LAB_SWEEP", str(sweep))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FOLDER.parent), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(FOLDER)}}).execute()
    assert sum("image/png" in output.get("data", {}) for output in outputs(notebook)) >= 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_showed_is_committed_without_errors_or_paths(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    text = path.read_text(encoding="utf-8")
    assert sum("image/png" in output.get("data", {}) for output in outputs(notebook)) >= 1
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    assert "/tmp/" not in text and "/work/" not in text and "/home/" not in text
    essay = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert "**Question.**" in essay and "**Caveat.**" in essay
    assert len(text) < 3_000_000
