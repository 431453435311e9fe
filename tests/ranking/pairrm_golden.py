"""Scores that llm-blender 0.0.2 gives at batch size 1; run as a program, where it is installed, it writes the file.

The file holds numbers only; checkpoint and prompts are made again from seeds.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from pairrm_checkpoints import make_rows, write_original

GOLDEN = Path(__file__).parent / "pairrm_golden.json"
LIMITS = (60, 24)
"""Short enough that many sources and candidates are cut."""
N_ROWS, LONGEST = 200, 70


def golden_checkpoint(folder: Path) -> Path:
    return write_original(folder, LIMITS)


def golden_rows() -> list[dict[str, object]]:
    return make_rows(N_ROWS, LONGEST)


def blender_scores(folder: Path, rows: list[dict[str, object]]) -> list[list[float]]:
    """By the package, through the ranker's own backend."""
    from aipo_lab.ranking.pairrm.ranker import open_pairrm, resources
    from aipo_lab.ranking.pairrm.settings import PairRMSettings
    from aipo_lab.ranking.ranker import RankerContext

    settings = PairRMSettings(model=str(folder), backend="llm_blender")
    ranker = open_pairrm(settings, RankerContext(None, 0, "cpu", resources(settings).folders))
    return list(ranker.scores(rows, lambda *_: None))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        scores = blender_scores(golden_checkpoint(Path(name)), golden_rows())
    lines = [json.dumps([round(score, 6) for score in row]) for row in scores]
    GOLDEN.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
