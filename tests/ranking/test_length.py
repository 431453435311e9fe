"""The length ranker: nearest to the target is best, and without one the shortest."""

from __future__ import annotations

import pytest

from aipo_lab.ranking.ranker import RANKERS, RankerContext

ROW = {"responses": [{"tokens": 3}, {"tokens": 10}, {"tokens": 14}]}


@pytest.mark.parametrize(("settings", "scores"), [({}, [-3, -10, -14]), ({"target_tokens": 12}, [-9, -2, -2])])
def test_scores_are_lengths(settings: dict[str, int], scores: list[float]) -> None:
    definition = RANKERS.get("length")
    assert not definition.needs_world
    ranker = definition.open(definition.settings(**settings), RankerContext(None, 0, "cpu"))
    assert list(ranker.scores([ROW], lambda *_: None)) == [scores]
