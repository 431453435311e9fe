"""The report: self-contained, escaped, complete, and honest about what failed or is missing."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from simulated_sweeps import simulated, wins_at
from synthetic_results import fail_trial, swept_recipe_key, synthetic_rows, with_judged_benchmarks

from aipo_lab.benchmarks.catalogue import BENCHMARK_METRICS
from aipo_lab.figures.draw import draw_figures
from aipo_lab.figures.palette import setting_label
from aipo_lab.report.pick_text import pick_sentences
from aipo_lab.report.report import ReportData, build_report, summary_sentences, trial_states
from aipo_lab.report.samples import Sample, group_samples
from aipo_lab.report.tables import best_table, result_table
from aipo_lab.results.certainty import get_picks
from aipo_lab.results.halves import with_halves
from aipo_lab.results.per_prompt import NO_VALUES
from aipo_lab.results.rules import parse_rule
from aipo_lab.results.selection import select_per_objective

TOP_LEFT = parse_rule("top_left")
WIN = "micro/judged_win_rate"
MICRO = BENCHMARK_METRICS["micro"]


def sample(
    trial="aipo-00",
    iteration=1,
    prompt="tell me the colour of the cat .",
    response="blue .",
    objective="aipo",
):
    return Sample(trial, objective, iteration, prompt, response, 7, 0.5)


def report_data(rows, benchmarks=("micro",), **changes):
    selections = {b: select_per_objective(rows, TOP_LEFT, BENCHMARK_METRICS[b]) for b in benchmarks}
    data = ReportData("table6", "micro", rows, list(benchmarks), "top_left", selections, duration_s=133.4)
    return replace(data, **changes)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    rows = [row for row in synthetic_rows(iterations=2) if row.objective in ("dpo", "aipo")]
    rows = with_judged_benchmarks(rows)
    data = report_data(
        rows,
        ("micro", "arena_hard", "mt_bench"),
        figures=draw_figures(rows, TOP_LEFT, folder / "figures"),
        samples=[sample(iteration=k, response=f"answer number {k}") for k in range(3)],
        stage_counts={
            "train": {"computed": 60, "shared": 0, "reused": 0},
            "respond": {"computed": 41, "shared": 19},
        },
        pipeline_counts=[{"trial": "aipo-00", "iteration": 1, "instructions_generated": 300, "malformed": 12}],
        configuration_yaml="profile: micro\n",
    )
    return data, build_report(data, folder / "report.html").read_text()


def test_every_figure_is_embedded_with_its_caption(page):
    data, html = page
    assert len(data.figures) == 7
    assert html.count("data:image/png;base64,") == 7
    for name in data.figures:
        assert f'<figure id="{name}">' in html
    assert html.count("<figcaption>") == 7


def test_the_page_loads_nothing_from_anywhere(page):
    _, html = page
    markup = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", html)
    markup = re.sub(r"(<script[^>]*>).*?</script>", r"\1", markup, flags=re.DOTALL)  # Plotly names namespaces
    assert not re.search(r"https?://|@import|<link|\bsrc=\"(?!\")", markup)
    assert "default-src 'none'" in html


def test_it_has_every_section(page):
    _, html = page
    for heading in ("Best trial of each objective", "Does the paper's ordering appear here?", "All results",
                    "Sampled responses", "What ran", "Configuration"):  # fmt: skip
        assert heading in html
    assert "answer number 2" in html
    assert "instructions generated" in html
    assert "profile: micro" in html
    assert "α=0.05 λ=0.2" in html or "α=0.03 λ=0.2" in html


def test_model_output_reasons_and_names_are_escaped(tmp_path):
    attack = "<script>alert('x')</script>"
    rows = fail_trial(synthetic_rows(iterations=1), "aipo-00", 1)
    data = report_data(
        rows,
        name=attack,
        samples=[sample(response=attack, prompt=attack)],
        failures={"aipo-00": attack},
        configuration_yaml=attack,
        pipeline_counts=[{"trial": attack}],
    )
    html = build_report(data, tmp_path / "report.html").read_text()
    assert attack not in html
    assert html.count("&lt;script&gt;alert") >= 6


def test_failed_trials_are_shown_with_their_reasons_and_counted(tmp_path):
    rows = fail_trial(synthetic_rows(iterations=2), "aipo-00", 1)
    data = report_data(rows, failures={"aipo-00": "train: the loss is NaN at step 3"})
    html = build_report(data, tmp_path / "report.html").read_text()
    assert "the loss is NaN at step 3" in html
    assert "20 trials (19 complete, 1 failed)" in html
    assert trial_states(rows, {})["aipo-00"] == "failed"


def test_the_summary_tells_trials_iterations_time_and_stages():
    data = report_data(
        synthetic_rows(),
        stage_counts={"a": {"computed": 1}, "b": {"computed": 2, "shared": 5, "reused": 4}},
    )
    text = " ".join(summary_sentences(data))
    assert "20 trials (20 complete), up to 3 iterations after the base model, in 2 min 13 s." in text
    assert "3 stages computed, 5 shared between trials, 4 reused" in text
    assert "rule top_left" in text


@pytest.mark.parametrize("rows", [[], fail_trial(synthetic_rows()[:4], "dpo-00", 0)], ids=["no-rows", "all-failed"])
def test_without_any_result_there_is_still_a_report(rows, tmp_path):
    html = build_report(report_data(rows, failures={"dpo-00": "why"}), tmp_path / "deep" / "report.html").read_text()
    assert "No trial has a complete result yet." in html
    assert "why" in html


def test_the_best_table_states_growth_errors_and_the_runner_up():
    rows = synthetic_rows()
    table = best_table(rows, select_per_objective(rows, TOP_LEFT, MICRO), MICRO)
    assert [row[0].text for row in table.rows] == ["DPO", "DPO+NLL", "SimPO", "α-DPO", "AIPO"]
    dpo = dict(zip(table.columns, table.rows[0], strict=True))
    best = select_per_objective(rows, TOP_LEFT, MICRO)["dpo"].best
    length = best.metrics["micro/length_tokens"]
    assert dpo["length / base"].text == f"{length / 19.4:.2f}"
    assert dpo["Mean response length (tokens)"].text.startswith(f"{length:.1f} ± ")
    assert dpo["runner-up"].text.startswith("β=")
    assert (dpo["picked again"].text, dpo["not separable"].text) == ("–", "–")  # nobody worked it out
    picks = get_picks(rows, TOP_LEFT, MICRO, NO_VALUES, n_draws=50)
    sure = dict(zip(table.columns, best_table(rows, picks.by_contender, MICRO).rows[0], strict=True))
    assert re.fullmatch(r"[<>]?\d+ %", sure["picked again"].text)
    assert sure["not separable"].text == f"{len(picks.by_contender['dpo'].certainty.inseparable)} of 8"


def test_the_overall_best_is_named_with_its_ties_its_stability_and_what_other_rules_pick(tmp_path):
    rows = synthetic_rows()
    rows = [replace(row, metrics=row.metrics | {"micro/n": 200.0}) for row in rows]
    overall = get_picks(rows, TOP_LEFT, MICRO, NO_VALUES, n_draws=50).overall
    html = build_report(replace(report_data(rows), overall={"micro": overall}), tmp_path / "report.html").read_text()
    setting = setting_label(overall.best.hyperparameters)
    assert f"Over all objectives: <strong>AIPO {setting} at iteration {overall.best.iteration}, win rate by " in html
    assert "of 50 draws from the standard errors, taken as independent" in html
    assert f"{len(overall.certainty.inseparable)} of 59 other points" in html
    assert "points makes the winner&#39;s number look better by about" in html
    assert "highest win rate by length-biased judge" in html
    assert "over 200 prompts" in html


def test_a_pick_of_halved_prompts_says_which_number_had_no_say():
    random = np.random.default_rng(0)
    trials = {f"t{i}": [(wins_at(random, 80, 240), np.full(240, 22.0))] for i in range(3)}
    rows, values = simulated(trials)
    rows = with_halves(rows, MICRO, values)
    overall = get_picks(rows, parse_rule("corner"), MICRO, values, n_draws=50).overall
    text = " ".join(pick_sentences(overall, MICRO))
    reported, picked = overall.best.reported_on, overall.best.picked_on
    assert (
        f"{reported[WIN]:.1f} ± {reported[f'{WIN}_se']:.1f} on {reported['micro/n']:.0f} prompts that had no say"
        in text
    )
    assert f"{picked[WIN]:.1f} on the {picked['micro/n']:.0f} that picked ({picked[WIN] - reported[WIN]:+.1f}" in text
    assert f"of those {reported['micro/n']:.0f} prompts" in text
    cells = dict(zip((table := best_table(rows, {"dpo": overall}, MICRO)).columns, table.rows[0], strict=True))
    assert cells[MICRO.win_rate_label].value == reported[WIN]
    assert cells["length / base"].text == "1.10"


def test_rows_show_swept_recipe_keys_and_dashes_for_what_is_missing():
    rows = fail_trial(swept_recipe_key(), "dpo-01", 2)
    table = result_table(rows, ["micro"])
    assert len(table.rows) == len(rows)
    failed = next(row for row in table.rows if row[4].text == "failed")
    assert failed[2].text == "β=0.1 rank.length_bias=0.05"
    assert {cell.text for cell in failed[5:]} == {"–"}


def test_samples_are_grouped_by_trial_with_the_base_model_first():
    samples = [sample(iteration=2), sample(iteration=1), sample("dpo-00", 1, objective="dpo")]
    samples.append(sample("simpo-00", 0, response="base", objective="simpo"))
    groups = group_samples(samples, {"dpo-00": "β=0.1"})
    assert [group.title for group in groups] == ["DPO β=0.1", "AIPO aipo-00"]
    assert groups[1].iterations == [0, 1, 2]
    assert [s.response for s in groups[1].prompts[0][1]] == ["base", "blue .", "blue ."]
    assert group_samples([], {}) == []
    assert group_samples(samples[-1:], {})[0].title == "base model"
