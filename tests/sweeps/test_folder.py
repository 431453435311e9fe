"""A folder belongs to one sweep: other settings get another folder, or are refused where the user named it."""

from __future__ import annotations

from pathlib import Path

import pytest

from aipo_lab.core.errors import UserError
from aipo_lab.sweeps.folder import SweepFolder, SweepSummary, choose_folder, sweep_id
from aipo_lab.sweeps.sweep import single_run

ONE = single_run("micro")
OTHER = single_run("micro", [("seed", 1)])


def occupy(path: Path) -> None:
    path.mkdir(parents=True)
    SweepFolder(path).save_summary(SweepSummary(sweep_id(ONE), {}))


def test_the_same_sweep_keeps_its_folder(tmp_path: Path) -> None:
    occupy(tmp_path / "micro-dpo")
    assert choose_folder(ONE, None, tmp_path).path == tmp_path / "micro-dpo"
    assert choose_folder(ONE, tmp_path / "micro-dpo", tmp_path).path == tmp_path / "micro-dpo"


def test_other_settings_never_overwrite_results(tmp_path: Path) -> None:
    occupy(tmp_path / "micro-dpo")
    assert choose_folder(OTHER, None, tmp_path).path == tmp_path / f"micro-dpo-{sweep_id(OTHER)[:8]}"
    with pytest.raises(UserError, match=r"holds the results of other settings .* choose another with --out"):
        choose_folder(OTHER, tmp_path / "micro-dpo", tmp_path)
