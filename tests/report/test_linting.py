"""The data linter: every rule has data that trips it and data that does not, and says why and what to do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from aipo_lab.cli import main
from aipo_lab.core.jsonl import write_jsonl
from aipo_lab.core.store import ArtifactRequest, Store
from aipo_lab.curation.pair_statistics import PairStatistics
from aipo_lab.pipeline.recipe import build_recipe, profile_values
from aipo_lab.report.data_findings import SHOWN, group_findings
from aipo_lab.report.linting import RULES, DataFacts, TrainingDrift, lint, training_drift
from aipo_lab.stages.definition import StageNode
from aipo_lab.sweeps.linted import grouped, lint_sweep

FINE = PairStatistics(
    pairs=100,
    length_unit="tokens",
    length_difference=1.0,
    length_difference_sd=10.0,
    length_sd=20.0,
    near_duplicates=3,
    truncated=4,
    equal_scores=0,
    distinct_scores=150,
)
HEALTHY = DataFacts(
    statistics=FINE,
    counts={"kept": 90, "all_tied": 5, "too_long": 5},
    earlier_yield=0.95,
    prompts=100,
    all_tied=5,
    responses=400,
    truncated=20,
    drift=TrainingDrift(chosen=2.0, rejected=-5.0),
)


def found(facts: DataFacts) -> dict[str, str]:
    return {finding.rule.name: finding.text for finding in lint(facts)}


def statistics(**changes: Any) -> DataFacts:
    return replace(HEALTHY, statistics=replace(FINE, **changes), responses=None, truncated=None)


def drift(chosen: float, rejected: float, **errors: float) -> DataFacts:
    return replace(HEALTHY, drift=TrainingDrift(chosen, rejected, **errors))


def test_healthy_or_unknown_data_trip_nothing() -> None:
    assert found(HEALTHY) == {}
    assert found(DataFacts()) == {}


@pytest.mark.parametrize(
    ("trips", "does_not", "rule", "says"),
    [
        (
            statistics(length_difference=4.0),
            statistics(length_difference=3.9),
            "chosen_longer",
            "longer than rejected ones by 4.0 tokens on average, 0.20 standard deviations",
        ),
        (statistics(length_difference=4.0), statistics(length_difference=-30.0), "chosen_longer", "length_penalty"),
        (
            statistics(length_difference=6.0),
            statistics(length_difference=6.0, length_difference_sd=31.0),  # twice its error is 6.2
            "chosen_longer",
            "6.0 tokens",
        ),
        (statistics(near_duplicates=10), statistics(near_duplicates=9), "near_duplicates", "in 10 of 100 (10 %) pairs"),
        (
            replace(HEALTHY, counts={"kept": 60, "too_long": 35, "url": 5}, earlier_yield=0.9),
            replace(HEALTHY, counts={"kept": 64, "too_long": 36}, earlier_yield=0.9),
            "yield_collapses",
            "60 % of the possible pairs were kept, 90 % in the iteration before (told below 0.7 times as many); most "
            "are lost to too_long, 35",
        ),
        (replace(HEALTHY, all_tied=10), replace(HEALTHY, all_tied=9), "ties", "10 of 100 (10 %) prompts"),
        (replace(HEALTHY, all_tied=100), replace(HEALTHY, all_tied=99), "all_equal_scores", "every one of 100 prompts"),
        (statistics(equal_scores=100), statistics(equal_scores=99), "all_equal_scores", "every one of 100 pairs"),
        (replace(HEALTHY, truncated=40), replace(HEALTHY, truncated=39), "truncated", "40 of 400 (10 %) candidates"),
        (statistics(truncated=20), statistics(truncated=19), "truncated", "20 of 200 (10 %) responses in pairs"),
        (drift(-1.0, -1.5), drift(-0.9, -1.5), "chosen_falls", "by 1.0 nats a response"),
        (drift(-1.0, -1.5), drift(-1.0, -1.5, chosen_se=0.6), "chosen_falls", "NLL"),
        (drift(0.0, -1.0), drift(0.1, -1.0), "margin_by_rejected", "grew by 1.0 nats only because rejected"),
        (drift(-0.5, -1.6), drift(-0.5, -1.4), "margin_by_rejected", "by 1.6"),
        (drift(0.0, -2.0), drift(0.0, -2.0, margin_se=1.1), "margin_by_rejected", "by 2.0"),
    ],
)
def test_a_rule_trips_at_its_threshold(trips: DataFacts, does_not: DataFacts, rule: str, says: str) -> None:
    assert says in found(trips)[rule]
    assert rule not in found(does_not)


def test_a_ranker_that_says_nothing_is_not_called_tied_as_well() -> None:
    assert set(found(replace(HEALTHY, all_tied=100))) == {"all_equal_scores"}


def test_every_rule_has_reason_next_step_and_a_test_above() -> None:
    source = Path(__file__).read_text()
    for rule in RULES:
        assert rule.reason.endswith(".") and rule.next_step.endswith(".") and rule.unit and rule.threshold > 0
        assert f'"{rule.name}"' in source


def row(step: int, chosen: float, rejected: float, **more: float) -> dict[str, float]:
    lengths = {"length_chosen_tokens": 10.0, "length_rejected_tokens": 5.0}
    return {"step": step, "reward_chosen": chosen, "reward_rejected": rejected, **lengths, **more}


def test_drift_against_a_reference_is_in_nats_from_the_first_step_to_the_last_quarter() -> None:
    curve = [row(n, -0.1 * n, -0.2 * n) for n in range(8)]
    made = training_drift(curve, 0.1, reference_free=False, per_token=False)
    assert made is not None
    assert (made.chosen, made.rejected) == (pytest.approx(-6.5), pytest.approx(-13.0))  # steps 6 and 7, over beta
    per_token = training_drift(curve, 0.1, reference_free=False, per_token=True)
    assert per_token is not None and per_token.chosen == pytest.approx(-65.0)
    moved = [row(n, 5 - 0.1 * n, 0) for n in range(8)]  # the reference is another policy: only the change counts
    assert training_drift(moved, 0.1, False, False).chosen == pytest.approx(-6.5)  # type: ignore[union-attr]


def test_drift_without_a_reference_compares_tokens_not_texts() -> None:
    curve = [
        {"logps_chosen": -n, "logps_rejected": -2 * n, "length_chosen_tokens": n, "length_rejected_tokens": n}
        for n in (10.0, 20.0, 40.0, 10.0, 20.0, 40.0, 10.0, 20.0)
    ]
    made = training_drift(curve, 2.0, reference_free=True, per_token=True)
    assert made is not None and made.chosen == pytest.approx(0) and made.rejected == pytest.approx(0)


@pytest.mark.parametrize("reference_free", [False, True])
def test_too_short_a_training_tells_nothing(reference_free: bool) -> None:
    assert training_drift([row(0, 0, 0)], 0.1, reference_free, False) is None


def stored(store: Store, stage: str, number: int, summary: dict[str, Any], curve: Any = None) -> StageNode:
    request = ArtifactRequest(stage, 0, {"number": number}, {})

    def build(folder: Path) -> dict[str, Any]:
        if curve is not None:
            write_jsonl(folder / "curve.jsonl", curve)
        return summary

    store.make(request, build)
    return StageNode(request)


def test_a_sweep_s_findings_name_trial_and_iteration_and_what_is_shared_is_said_once(store: Store) -> None:
    good, bad = {"pairs": 90, "counts": {"kept": 90, "url": 10}}, {"pairs": 30, "counts": {"kept": 30, "url": 70}}
    first, second = stored(store, "pair", 0, good), stored(store, "pair", 1, bad)
    falling = stored(store, "train", 2, {}, [row(n, -0.3 * n, -0.1 * n) for n in range(4)])
    graph: Any = SimpleNamespace(
        iterations=[
            SimpleNamespace(t=0, steps={"pair": first, "train": falling}),
            SimpleNamespace(t=1, steps={"pair": second}),
            SimpleNamespace(t=2, steps={}),
        ]
    )
    recipe = build_recipe(profile_values("micro"))
    points = lint_sweep({"dpo": graph, "the same": graph}, {"dpo": recipe, "the same": recipe}, store)
    assert [(p.finding.rule.name, p.trial, p.iteration) for p in points] == [
        ("chosen_falls", "dpo", 0),
        ("yield_collapses", "dpo", 1),
    ]
    assert points[0].text.startswith("training of dpo, iteration 0: training made chosen responses less likely, by 9.0")
    assert points[1].text.startswith("pairs of dpo, iteration 1: 30 % of the possible pairs")
    (line,) = grouped([points[0], replace(points[0], trial="aipo")])
    assert line.endswith("(and 1 more like it: see the report)")


def lint_command(path: Path, rows: list[Any]) -> Result:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return CliRunner().invoke(main, ["lint", str(path)])


def test_the_command_lints_a_file_of_texts(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"q {i}", "chosen": "a long answer with many words " * (i + 1), "rejected": "no"} for i in range(20)
    ]
    done = lint_command(tmp_path / "pairs.jsonl", [*rows, {"prompt": "q", "chosen": "same", "rejected": "same"}])
    assert done.exit_code == 1, done.output
    assert "20 pairs; chosen minus rejected +62.0 words" in done.output
    assert "left out: 1 same_text" in done.output
    assert "warning: chosen_longer: chosen responses are longer than rejected ones by 62.0 words" in done.output


def test_the_command_reads_tokens_ends_and_scores_where_a_file_has_them(tmp_path: Path) -> None:
    known = {f"{role}_{what}": value for role in ("chosen", "rejected") for what, value in
             (("tokens", 7), ("finish_reason", "length"), ("score", 1.0))}  # fmt: skip
    turns = {role: [{"role": "assistant", "content": f"the {role}"}] for role in ("chosen", "rejected")}
    rows = [{"prompt": [{"role": "user", "content": "q"}], **turns, **known}]
    done = lint_command(tmp_path / "pairs.jsonl", rows)
    assert "+0.0 tokens" in done.output
    assert "warning: all_equal_scores" in done.output and "warning: truncated" in done.output


def test_a_file_without_fault_says_so(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "chosen": f"red fox {i}", "rejected": f"blue bear {i}"} for i in range(9)]
    done = lint_command(tmp_path / "pairs.jsonl", rows)
    assert (done.exit_code, "no rule found anything" in done.output) == (0, True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"prompt": "q"}\n', "holds no usable pair: {'empty_response': 1}"),
        ("not json\n", "line 1 is not valid JSON"),
        (None, "is not there"),
    ],
)
def test_a_file_that_is_none_of_pairs_is_an_error(tmp_path: Path, text: str | None, says: str) -> None:
    path = tmp_path / "pairs.jsonl"
    if text is not None:
        path.write_text(text)
    done = CliRunner().invoke(main, ["lint", str(path)])
    assert done.exit_code == 2
    assert says in done.output


def test_a_curve_without_the_columns_tells_nothing() -> None:
    assert training_drift([{"step": 1.0, "loss": 0.7}, {"step": 2.0, "loss": 0.6}], 0.1, False, False) is None


def test_the_report_gives_a_rules_advice_once_and_folds_many_findings() -> None:
    falls = [("chosen_falls", "dpo", t, f"training {t} fell") for t in range(SHOWN + 2)]
    groups = group_findings([falls[0], ("chosen_longer", "simpo", 1, "longer"), *falls[1:]])
    assert [group.title for group in groups] == ["Chosen longer", "Chosen falls"]
    assert (groups[0].first, groups[0].more) == ([("simpo, iteration 1", "longer")], [])
    assert groups[1].first + groups[1].more == [(f"dpo, iteration {t}", f"training {t} fell") for t in range(SHOWN + 2)]
    assert len(groups[1].more) == 2 and "NLL term" in groups[1].advice
