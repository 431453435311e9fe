"""The model hub is not asked inside the block, is again after it, and `datasets` is not imported for that."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

SCRIPT = """
import sys
order = sys.argv[1]
if order == "before":
    import datasets.config
from aipo_lab.core.offline import without_hub
from huggingface_hub import constants
try:
    with without_hub():
        assert constants.HF_HUB_OFFLINE
        assert ("datasets" in sys.modules) == (order == "before")
        import datasets.config
        assert datasets.config.HF_HUB_OFFLINE
        raise RuntimeError("the block fails")
except RuntimeError:
    pass
print(constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE)
"""


@pytest.mark.skipif(find_spec("datasets") is None, reason="needs the extra `data`")
@pytest.mark.parametrize(
    ("order", "given", "after"),
    [
        ("before", {}, "False False"),
        ("inside", {}, "False False"),
        ("inside", {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "0"}, "True False"),
    ],
    ids=["imported before", "imported inside", "with settings of the user's"],
)
def test_the_hub_is_not_asked_inside_and_as_before_afterwards(order: str, given: dict[str, str], after: str) -> None:
    variables = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
    command = [sys.executable, "-c", SCRIPT, order]
    done = subprocess.run(command, env=variables | given, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, after), done.stderr
