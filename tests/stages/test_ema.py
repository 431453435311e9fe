"""Stage `ema`: the average of weights, tied ones once, exact at both ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_model_folder import write_model

from aipo_lab.core.errors import StageFailed
from aipo_lab.core.store import ArtifactRequest, Store
from aipo_lab.models.policy import load_policy
from aipo_lab.stages.definition import StageNode, get_stage, run_stage


@pytest.fixture
def average(store: Store, put_artifact: Any, tmp_path: Path):
    """Runs the stage on two random models; returns the weights of both and of the average."""

    def run(decay: float, **settings: Any) -> list[dict[str, torch.Tensor]]:
        folders = [tmp_path / name for name in ("old", "new")]
        for folder in folders:
            folder.mkdir(exist_ok=True)
        write_model(folders[0], **settings)
        model = write_model(folders[1], **settings)
        with torch.no_grad():
            for value in model.parameters():
                value.add_(torch.randn_like(value))
        model.save_pretrained(folders[1])
        inputs = {
            name: put_artifact("input", {"model": at}) for name, at in zip(("average", "policy"), folders, strict=True)
        }
        request = ArtifactRequest("ema", get_stage("ema").version, {"decay": decay}, inputs)
        made = run_stage(StageNode(request), store, lambda *_: None).file("model")
        return [load_policy(at, "cpu", "float32").model.state_dict() for at in (*folders, made)]

    return run


@pytest.mark.parametrize("tied", [False, True])
def test_the_average_is_between_the_two(average: Any, tied: bool) -> None:
    old, new, made = average(0.75, tie_word_embeddings=tied)
    assert old.keys() == new.keys() == made.keys()
    for name, value in made.items():
        torch.testing.assert_close(value, 0.75 * old[name] + 0.25 * new[name])


@pytest.mark.parametrize(("decay", "which"), [(0.0, 1), (1.0, 0)])
def test_its_ends_are_the_two_themselves(average: Any, decay: float, which: int) -> None:
    *both, made = average(decay)
    assert all(torch.equal(value, both[which][name]) for name, value in made.items())


def test_other_weights_have_no_average(store: Store, put_artifact: Any, tmp_path: Path) -> None:
    for name, size in (("average", 16), ("policy", 32)):
        (tmp_path / name).mkdir()
        write_model(tmp_path / name, hidden_size=size)
    inputs = {name: put_artifact("input", {"model": tmp_path / name}) for name in ("average", "policy")}
    request = ArtifactRequest("ema", get_stage("ema").version, {"decay": 0.5}, inputs)
    with pytest.raises(StageFailed, match="other weights than the average"):
        run_stage(StageNode(request), store, lambda *_: None)
