"""A sweep whose candidates a server judges: foreseen by the plan, asked for once, paid for from the common budget."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml
from judging.judge_server import Body, JudgeServer
from small_sweep import RECIPE

from aipo_lab.core.jsonl import read_json
from aipo_lab.core.store import Store
from aipo_lab.execution.inline import InlineExecutor
from aipo_lab.judging.ledger import ledger_path
from aipo_lab.sweeps.plan import build_graph
from aipo_lab.sweeps.plan_judging import judging_costs, open_budget
from aipo_lab.sweeps.study import Study, StudyListener
from aipo_lab.sweeps.sweep import Sweep, load_sweep

PRICE = {"gpt-4": {"input": 10, "output": 30}}


def reply(body: Body) -> str:
    return f"Score: {hashlib.sha256(body['messages'][-1]['content'].encode()).digest()[0] % 6}"


def sweep_with(folder: Path, base_url: str) -> Sweep:
    judge = {"model": "gpt-4", "base_url": base_url, "prices": PRICE}
    rank = {"ranker": "llm_judge", "judge": judge, "samples": 2, "max_new_tokens": 64}
    content = {"name": "judged", "recipe": {**RECIPE, "iterations": 1, "rank": rank}, "space": [{"objective": "dpo"}]}
    file = folder / "judged.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return load_sweep(file)


def test_judging_candidates_is_planned_and_paid_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    store = Store(tmp_path / "store")
    with JudgeServer(reply) as server:
        sweep = sweep_with(tmp_path, server.base_url)
        cost = judging_costs(build_graph(sweep), store)["candidates"]
        assert cost.calls == 16 * 3 * 2 and cost.completion_tokens == cost.calls * 64
        assert cost.usd == pytest.approx(cost.prompt_tokens * 10e-6 + cost.completion_tokens * 30e-6)
        study = Study.open(sweep, store, tmp_path / "out", tmp_path)
        with open_budget(study.graph, ledger_path(store.root), 5.0) as budget:
            assert budget is not None
            study.run(lambda: InlineExecutor(study.store, 1), StudyListener())
            assert 0 < budget.spent_usd < cost.usd and budget.n_calls == len(server.calls)
        assert not study.failures
        assert 0 < len(server.calls) <= cost.calls  # equal responses are asked about once
        assert "candidates" not in judging_costs(study.graph, store)
    (folder,) = (store.root / "rank").glob("*/")
    manifest = read_json(folder / "manifest.json")
    assert manifest["summary"]["judge"] == "the judge gpt-4" and manifest["summary"]["unparsable"] == 0
    assert server.base_url not in (folder / "manifest.json").read_text(encoding="utf-8")
