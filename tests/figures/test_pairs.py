"""Figures 5 and 6: which points, which coefficients, and files that come out of any set of pairs."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from aipo_lab.figures.draw import figure_caption
from aipo_lab.figures.pairs import (
    MOST_PANELS,
    draw_pair_figures,
    get_coefficients,
    get_logps_by_length_data,
    get_s_ref_by_length_difference_data,
    rho_text,
)


def rows(n: int = 60) -> list[dict[str, Any]]:
    draw = random.Random(0)
    made = []
    for _ in range(n):
        tokens = {role: draw.randint(5, 60) for role in ("chosen", "rejected")}
        logps = {role: -0.3 * count + draw.gauss(0, 4) for role, count in tokens.items()}
        made.append(
            {
                **{f"{role}_tokens": count for role, count in tokens.items()},
                **{f"{role}_logps": value for role, value in logps.items()},
                "length_difference_tokens": tokens["chosen"] - tokens["rejected"],
                "s_ref": logps["chosen"] - logps["rejected"],
            }
        )
    return made


def test_figure_5_has_every_response_and_figure_6_every_pair() -> None:
    made = rows()
    five = get_logps_by_length_data({"t": made})
    assert dict(five.groupby("kind").size()) == {"chosen": 60, "rejected": 60}
    assert list(five[five["kind"] == "rejected"]["y"]) == [row["rejected_logps"] for row in made]
    rho = get_coefficients(five).set_index("name")
    assert rho.loc["Pearson"].n == 120 and rho.loc["Pearson"].rho < -0.5
    six = get_s_ref_by_length_difference_data({"t": made})
    assert (six["x"][0], six["y"][0]) == (made[0]["length_difference_tokens"], made[0]["s_ref"])
    assert list(get_coefficients(six)["n"]) == [60, 60]
    text = rho_text(get_coefficients(six))
    assert text.startswith("Pearson ρ = −0.") and "\nSpearman ρ = −0." in text


def test_what_is_constant_has_no_coefficient() -> None:
    same = [rows(1)[0]] * 3
    assert rho_text(get_coefficients(get_s_ref_by_length_difference_data({"t": same}))) == "ρ = –"


@pytest.mark.parametrize("n_sets", [1, 2, 4, 9])
def test_both_figures_are_drawn_whatever_the_number_of_sets(n_sets: int, tmp_path: Path, recwarn: Any) -> None:
    analyses = {f"trial {n}, iteration 0": rows(1 + 9 * n) for n in range(n_sets)} | {"empty": []}
    drawn = draw_pair_figures(analyses, tmp_path)
    assert list(drawn) == ["figure5_pairs", "figure6_pairs"]
    assert all(path.is_file() and path.with_suffix(".pdf").is_file() for path in drawn.values())
    assert get_logps_by_length_data(analyses)["title"].nunique() == min(n_sets, MOST_PANELS)
    assert all("ρ" in figure_caption(name) for name in drawn)
    assert [str(warning.message) for warning in recwarn] == []


def test_without_analysed_pairs_there_is_no_figure(tmp_path: Path) -> None:
    assert draw_pair_figures({}, tmp_path) == {}
    assert not list(tmp_path.iterdir())
