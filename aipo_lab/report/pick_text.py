"""A pick in sentences: what it is worth on prompts that had no say, how sure it is, and what other rules pick."""

from __future__ import annotations

from collections.abc import Sequence

from aipo_lab.benchmarks.metrics import BenchmarkMetrics
from aipo_lab.figures.palette import objective_name, setting_label
from aipo_lab.results.certainty import Certainty
from aipo_lab.results.points import standard_error
from aipo_lab.results.rows import ResultRow
from aipo_lab.results.selection import Selection

MOST_NAMED = 4
_SOURCES = {
    "prompts": "resamples of {which} {n} prompts",
    "prompts and seeds": "resamples of {which} {n} prompts and of the seeds",
    "errors": "draws from the standard errors, taken as independent, which is conservative",
}


def pick_sentences(selection: Selection, metrics: BenchmarkMetrics) -> list[str]:
    """What stands beside a pick over all objectives; nothing of what is not known."""
    said = [_reported(selection, metrics)]
    certainty = selection.certainty
    if certainty is None:
        return said
    if certainty.stability is not None:
        said += [_stability(selection, certainty), _ties(certainty)]
    elif certainty.n_points > 1:
        said.append("Without values by prompt or standard errors nothing is known of how sure this pick is.")
    if certainty.optimism is not None and not selection.halved:
        said.append(
            f"Picking among {certainty.n_points} points makes the winner's number look better by about "
            f"{certainty.optimism:.1f} (bootstrap); it is reported on the prompts it was picked on."
        )
    return [*said, *_other_rules(selection.best, certainty, metrics)]


def pick_lines(selection: Selection, metrics: BenchmarkMetrics) -> list[str]:
    """The pick and its sentences, for a screen."""
    return [f"best by {selection.rule}: {point_text(selection.best)}", *pick_sentences(selection, metrics)]


def point_text(row: ResultRow) -> str:
    """A point as a reader knows it: objective or method, setting, iteration."""
    setting = setting_label(row.hyperparameters) or row.trial
    return f"{objective_name(row.contender)} {setting} at iteration {row.iteration}"


def share_text(share: float) -> str:
    """A share as whole percent, never rounded to a certainty that it is not."""
    percent = f"{100 * share:.0f}"
    if share > 0 and percent == "0":
        return "<1 %"
    return ">99 %" if share < 1 and percent == "100" else f"{percent} %"


def tie_count_text(certainty: Certainty | None) -> str:
    """`7 of 59`: how many of the other points are not separable from the pick; empty where that is not known."""
    if certainty is None or certainty.stability is None:
        return ""
    return f"{len(certainty.inseparable)} of {certainty.n_points - 1}"


def _reported(selection: Selection, metrics: BenchmarkMetrics) -> str:
    """The values to report, and on which prompts the point was picked."""
    metric, name = selection.metric, selection.metric.split("/")[0]
    label = metrics.win_rate_label if metric == metrics.win_rate else metric
    seeds = f", mean of {len(selection.seeds)} seeds" if len(selection.seeds) > 1 else ""
    if not selection.halved:
        return f"{label} {_value(selection.best, metric)}{seeds}, on the prompts it was picked on."
    n_picked, n_reported = (d.get(f"{name}/n", 0.0) for d in (selection.best.picked_on, selection.best.reported_on))
    certainty = selection.certainty
    optimism = (
        "" if certainty is None or certainty.optimism is None else f", bootstrap expects {certainty.optimism:+.1f}"
    )
    picked, reported = selection.best.picked_on[metric], selection.reported.metrics[metric]
    return (
        f"{label} {_value(selection.reported, metric)} on {n_reported:.0f} prompts that had no say in the pick{seeds}; "
        f"{picked:.1f} on the {n_picked:.0f} that picked ({picked - reported:+.1f}{optimism})."
    )


def _value(row: ResultRow, metric: str) -> str:
    error = standard_error(row, metric)
    return f"{row.metrics[metric]:.1f}" + ("" if error is None else f" ± {error:.1f}")


def _stability(selection: Selection, certainty: Certainty) -> str:
    assert certainty.stability is not None
    assert certainty.same_trial is not None
    source = _SOURCES[certainty.source].format(which="those" if selection.halved else "the", n=certainty.n_prompts)
    text = f"Picked again in {share_text(certainty.stability)} of {certainty.n_draws:,} {source}"
    text += f" (its trial, at any iteration, in {share_text(certainty.same_trial)}"
    if len(certainty.contenders) > 1 or certainty.contenders[0][0] != selection.best.contender:
        shares = ", ".join(f"{objective_name(name)} {share_text(share)}" for name, share in certainty.contenders[:5])
        text += f"; {shares}"
    assert certainty.ranks is not None
    low, middle, high = certainty.ranks
    return f"{text}); its rank among {certainty.n_points} points was {middle} in the median, {low} to {high} in 90 %."


def _ties(certainty: Certainty) -> str:
    if not certainty.inseparable:
        if certainty.n_points == 1:
            return "There was no other point to pick."
        return f"All {certainty.n_points - 1} other points are clearly worse by this rule."
    return (
        f"Ties, not separable from it by this rule (95 %, simultaneous): {tie_count_text(certainty)} other points: "
        f"{named_points(certainty.inseparable)}."
    )


def named_points(rows: Sequence[ResultRow]) -> str:
    """The first few points by name, and how many more there are."""
    named = ", ".join(point_text(row) for row in rows[:MOST_NAMED])
    return named + (f" and {len(rows) - MOST_NAMED} more" if len(rows) > MOST_NAMED else "")


def rule_text(rule: str, metrics: BenchmarkMetrics) -> str:
    """A rule of `select` in words that name no metric key."""
    if not rule.startswith("max:"):
        return rule.replace("_", " ")
    metric, _, limit = rule.removeprefix("max:").partition("@length<=")
    labels = {
        metrics.win_rate: metrics.win_rate_label,
        metrics.lc_win_rate: "length-controlled win rate",
        metrics.true_win_rate: "win rate by true quality",
        metrics.quality: "true quality",
    }
    known = {(name or "").split("/")[-1]: label for name, label in labels.items()} | labels
    label = (known.get(metric) or metric).removesuffix(" (%)")
    words = f"highest {label[:1].lower()}{label[1:]}"
    return f"{words} at a length of at most {limit}" if limit else words


def _other_rules(best: ResultRow, certainty: Certainty, metrics: BenchmarkMetrics) -> list[str]:
    """What other rules pick: those that agree in one sentence, the others by point."""
    same: list[str] = []
    by_point: dict[str, list[str]] = {}
    for rule, row in certainty.others:
        agrees = (row.trial, row.iteration) == (best.trial, best.iteration)
        (same if agrees else by_point.setdefault(point_text(row), [])).append(rule_text(rule, metrics))
    said = [f"Also chosen under {', '.join(same)}."] if same else []
    differing = "; ".join(f"{', '.join(rules)}: {point}" for point, rules in by_point.items())
    return [*said, f"Other rules pick otherwise: {differing}."] if differing else said
