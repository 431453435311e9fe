"""How MLflow's UI opens a sweep: the run table with its results as columns, and charts that mean something.

MLflow keeps a view that somebody shared as a tag of the experiment, and opens it by its key in the address. The layout
of such a view is the UI's own and may change with its version (3.17 reads this one); a view it cannot read it drops,
and shows its default page.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

from aipo_lab.tracking.tracker import Headline

VIEW_TAG = "mlflow.sharedViewState."
_MOST_CHARS = 20000
_RUNS_SHOWN, _RUNS_COMPARED = 20, 200
_CURVES = ("loss", "reward_margin", "reward_accuracy", "length_chosen_tokens")


def view_key(sweep_run_id: str) -> str:
    """The key of a sweep's view."""
    return f"aipo-lab-{sweep_run_id}"


def table_page(server: str, experiment_id: str, view: str) -> str:
    """The address of the experiment's run table, in the view of a sweep if there is one."""
    query = f"?viewStateShareKey={view}" if view else ""
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs{query}"


def view_text(sweep_run_id: str, headline: Headline) -> str:
    """The view of a sweep, as the UI writes it; empty for one that would be too long for a tag."""
    state = json.dumps(_state(sweep_run_id, headline), separators=(",", ":"))
    text = "deflate;" + base64.b64encode(zlib.compress(state.encode(), 9)).decode()
    return text if len(text) <= _MOST_CHARS else ""


def _state(sweep_run_id: str, headline: Headline) -> dict[str, Any]:
    best = [f"best/{name}" for name in headline.shown]
    sections, charts = _charts(headline)
    return {
        "searchFilter": f"tags.`mlflow.parentRunId` = '{sweep_run_id}'",
        "orderByKey": f"metrics.`{best[0]}`" if best else "attributes.`start_time`",
        "orderByAsc": False,
        "selectedColumns": [
            "tags.`selected`",
            "params.`objective`",
            *(f"params.`{name}`" for name in headline.varied),
            "metrics.`best/iteration`",
            *(f"metrics.`{name}`" for name in best),
        ],
        "runsHiddenMode": f"FIRST_{_RUNS_SHOWN}_RUNS",
        "isAccordionReordered": True,
        "compareRunSections": sections,
        "compareRunCharts": charts,
    }


def _charts(headline: Headline) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Sections of the chart page and their charts."""
    groups = {
        "Outcome of each trial": _outcome_charts(headline),
        "By iteration": [_line(name) for name in headline.shown],
        "Training": [_line(f"train/{name}") for name in _CURVES],
    }
    sections, charts = [], []
    for number, (title, group) in enumerate(groups.items()):
        uuid = f"aipo-lab-{number}"
        own: dict[str, Any] = {"deleted": False, "isGenerated": False}
        sections.append({"uuid": uuid, "name": title, "display": True, "isReordered": True, **own})
        charts += [
            {"uuid": f"{uuid}-{place}", "metricSectionId": uuid, **own, **one} for place, one in enumerate(group)
        ]
    return sections, charts


def _outcome_charts(headline: Headline) -> list[dict[str, Any]]:
    """Length against win rate for each benchmark, and the win rates as bars."""
    by_benchmark: dict[str, list[str]] = {}
    for name in headline.shown:
        by_benchmark.setdefault(name.split("/")[0], []).append(name)
    charts: list[dict[str, Any]] = []
    for names in by_benchmark.values():
        length = next((name for name in names if "/length" in name), None)
        if length is not None and names[0] != length:
            charts.append(_scatter(f"best/{length}", f"best/{names[0]}"))
    return charts + [
        {"type": "BAR", "runsCountToCompare": _RUNS_SHOWN, "metricKey": f"best/{names[0]}"}
        for names in by_benchmark.values()
    ]


def _scatter(x: str, y: str) -> dict[str, Any]:
    return {
        "type": "SCATTER",
        "runsCountToCompare": _RUNS_COMPARED,
        "xaxis": {"key": x, "type": "METRIC"},
        "yaxis": {"key": y, "type": "METRIC"},
    }


def _line(metric: str) -> dict[str, Any]:
    return {
        "type": "LINE",
        "runsCountToCompare": _RUNS_SHOWN,
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": {},
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }
