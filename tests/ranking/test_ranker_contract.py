"""What every registered ranker keeps to: order, copies, odd texts, one candidate, and going on after a kill."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from judging.judge_server import JudgeServer
from pairrm_checkpoints import make_rows, write_original
from reward_models import write_reward_model
from speaking_models import write_scoring_model

from aipo_lab.core.jsonl import write_jsonl
from aipo_lab.generation.engine import open_engine
from aipo_lab.generation.transformers_engine import TransformersEngineSettings
from aipo_lab.judging.ledger import SharedBudget
from aipo_lab.models.policy import POLICIES
from aipo_lab.models.template import ChatSettings
from aipo_lab.ranking.ranker import RANKERS, AskedPolicy, RankerContext
from aipo_lab.stages import rank as rank_stage
from aipo_lab.stages.definition import JudgingRuntime, Runtime, StageContext
from aipo_lab.stages.rank import RankConfig, competition_ranks
from aipo_lab.worlds.world import get_world

NOISELESS = (
    "proxy",
    "length",
    "pairrm",
    "pairrm-best_worst",
    "reward_model",
    "correct",
    "known_answer",
    "llm_judge",
    "llm_judge-pairwise",
    "llm_judge-policy",
)
"""Rankers by name, and by the setting after the hyphen; `proxy` here without its noise, which is drawn by place, and a
policy that judges at temperature 0 for the same reason."""


@dataclass(frozen=True)
class Contestant:
    """A ranker with settings as a stage has them, and its folders."""

    settings: Mapping[str, Any]
    folders: Mapping[str, str]
    needs_world: bool
    judging: JudgingRuntime | None = None
    policy: Path | None = None

    def asked_policy(self) -> AskedPolicy:
        assert self.policy is not None
        engine = open_engine(TransformersEngineSettings(), self.policy, "cpu")
        return AskedPolicy(POLICIES.get(self.policy, "cpu", "float32"), engine, ChatSettings())

    def scores(self, rows: list[dict[str, Any]]) -> list[list[Any]]:
        definition = RANKERS.get(str(self.settings["ranker"]))
        world = get_world("micro", 0) if self.needs_world else None
        judging = self.judging
        judge = None if judging is None else lambda: judging.open("cpu")
        policy = None if self.policy is None else self.asked_policy
        context = RankerContext(world, 0, "cpu", self.folders, policy, judge)
        return list(definition.open(definition.settings(**self.settings), context).scores(rows, lambda *_: None))


def judged(body: Mapping[str, Any]) -> str:
    """A judge whose words depend on the whole question and nothing else: points, and a verdict."""
    digest = hashlib.sha256(body["messages"][-1]["content"].encode("utf-8", "surrogatepass")).digest()
    return f"It has its merits.\nScore: {digest[0] % 6}\n[[{'ABC'[digest[1] % 3]}]]"


@pytest.fixture(scope="module")
def judge_server() -> Iterator[JudgeServer]:
    with pytest.MonkeyPatch.context() as environment, JudgeServer(judged) as server:
        environment.setenv("OPENAI_API_KEY", "sk-test")
        yield server


@pytest.fixture(scope="module")
def contestants(tmp_path_factory: pytest.TempPathFactory, judge_server: JudgeServer) -> dict[str, Contestant]:
    folder = tmp_path_factory.mktemp("models")
    pairrm, reward = write_original(folder, limits=(60, 24)), write_reward_model(folder / "reward")
    answers = folder / "answers.jsonl"
    write_jsonl(answers, [{"prompt": "What is the color of the fox?", "answer": "fox"}])
    settings: dict[str, dict[str, Any]] = {
        "proxy": {"noise_sd": 0.0},
        "length": {},
        "pairrm": {"model": str(pairrm)},
        "pairrm-best_worst": {"model": str(pairrm), "mode": "best_worst"},
        "reward_model": {"model": str(reward), "max_tokens": 64},
        "correct": {"least_quality": 0.5},
        "known_answer": {"answers": str(answers), "response_pattern": r"\w+"},
    }
    found = {name: contestant(name.split("-")[0], more) for name, more in settings.items()}
    ledger, judge = folder / "ledger", {"model": "gpt-4", "base_url": judge_server.base_url}
    SharedBudget.create(ledger, None)
    for mode in ("additive", "pairwise"):
        name = "llm_judge" if mode == "additive" else f"llm_judge-{mode}"
        made = RANKERS.get("llm_judge").settings(ranker="llm_judge", judge=judge, mode=mode, samples=2)
        judging = JudgingRuntime(settings=made.asked_judge(), calls=str(folder / "calls"), ledger=str(ledger))
        found[name] = Contestant(made.key_values(), {}, needs_world=False, judging=judging)
    policy = write_scoring_model(folder / "scoring")
    greedy = RANKERS.get("llm_judge").settings(ranker="llm_judge", temperature=0.0, samples=1, max_new_tokens=8)
    found["llm_judge-policy"] = Contestant(greedy.key_values(), {}, needs_world=False, policy=policy)
    return found


def contestant(name: str, more: Mapping[str, Any]) -> Contestant:
    definition = RANKERS.get(name)
    found = definition.resources(definition.settings(ranker=name, **more))
    return Contestant({"ranker": name, **more, **found.identity}, found.folders, definition.needs_world)


@pytest.fixture(params=NOISELESS)
def ranker(request: pytest.FixtureRequest, contestants: dict[str, Contestant]) -> Contestant:
    return contestants[request.param]


def row(texts: list[str], prompt: str = "What is the color of the fox?", number: int = 0) -> dict[str, Any]:
    responses = [{"text": text, "tokens": len(text.split()), "finish_reason": "stop"} for text in texts]
    return {"id": f"{number:06d}", "prompt": prompt, "responses": responses}


TEXTS = ["the red fox", "the sun is old and the moon is new", "a sea", "why", "the old sea sleeps"]


def test_every_registered_ranker_takes_part() -> None:
    assert {name.split("-")[0] for name in NOISELESS} == set(RANKERS.names())


def test_a_score_belongs_to_its_candidate_whatever_the_order(ranker: Contestant) -> None:
    straight, turned = ranker.scores([row(TEXTS)])[0], ranker.scores([row(TEXTS[::-1])])[0]
    assert straight == turned[::-1]


def test_rows_do_not_depend_on_their_order(ranker: Contestant) -> None:
    rows = [row(TEXTS[:n], number=n) for n in (2, 3, 5)]
    straight, turned = ranker.scores(rows), ranker.scores(rows[::-1])
    assert straight == turned[::-1]


def test_copies_have_one_score(ranker: Contestant) -> None:
    made = ranker.scores([row([TEXTS[0], TEXTS[1], TEXTS[0], TEXTS[1], TEXTS[2]])])[0]
    assert made[0] == made[2] and made[1] == made[3]
    assert len(set(ranker.scores([row([TEXTS[0]] * 4)])[0])) == 1
    assert competition_ranks(ranker.scores([row([TEXTS[0]] * 4)])[0]) == [1, 1, 1, 1]


def test_one_candidate_has_a_score(ranker: Contestant) -> None:
    made = ranker.scores([row(["the red fox"])])
    assert len(made) == 1 and len(made[0]) == 1 and math.isfinite(made[0][0])
    assert ranker.scores([]) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t ",
        "fox " * 10_000,
        "x" * 20_000,
        "中文 \U0001f98a e\u0301 \u202eabc\u202c \u200b\ufeff",
        "half an emoji \ud83e",
        "\x00\x07",
        "[SEP] <|candidate1|> </s> [CLS]",
    ],
    ids=["empty", "blank", "words", "one-word", "unicode", "surrogate", "control", "special"],
)
def test_odd_texts_have_scores(ranker: Contestant, text: str) -> None:
    made = ranker.scores([row([text, "the red fox"]), row(["a fox", text, text])])
    assert [len(one) for one in made] == [2, 3]
    assert all(map(math.isfinite, [score for one in made for score in one]))
    assert made[1][1] == made[1][2]


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def run_stage(ranker: Contestant, folder: Path, rows: list[dict[str, Any]], die_after: int | None) -> bytes:
    """The bytes of `ranking.jsonl`; with `die_after`, the kill comes when so many rows are scored."""
    inputs, work = folder / "inputs", folder / "work"
    for one in (inputs, work / "parts"):
        one.mkdir(parents=True, exist_ok=True)
    write_jsonl(inputs / "responses.jsonl", rows)

    def progress(done: int, total: int, unit: str) -> None:
        if die_after is not None and done > die_after:
            raise Killed

    world = {"world": {"name": "micro", "seed": 0}} if ranker.needs_world else {}
    asking = {} if ranker.policy is None else {"engine": {"name": "transformers"}, "chat": {}}
    policy = {} if ranker.policy is None else {"policy": _Folder(ranker.policy)}
    context = StageContext(
        config=RankConfig.model_validate({**ranker.settings, "seed": 3, **world, **asking}),
        inputs={"responses": _Files(inputs), **policy},  # type: ignore[dict-item]
        folder=work,
        final_folder=work,
        runtime=Runtime(ranker_folders=dict(ranker.folders), judging=ranker.judging),
        progress=progress,
    )
    rank_stage.rank(context)
    return (work / "ranking.jsonl").read_bytes()


@dataclass(frozen=True)
class _Files:
    folder: Path

    def file(self, name: str) -> Path:
        return self.folder / name


class _Folder:
    """A policy as the artifact of a training."""

    stage = "train"

    def __init__(self, folder: Path) -> None:
        self.manifest: dict[str, Any] = {"config": {}}
        self._folder = folder

    def file(self, _: str) -> Path:
        return self._folder


def test_a_killed_stage_goes_on_and_ends_with_the_same_bytes(
    ranker: Contestant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_stage, "SHARD_ROWS", 4)
    rows = make_rows(11, longest=12, n_candidates=3)
    for one in rows:
        one["prompt"] = "What is the color of the fox?"
    whole = run_stage(ranker, tmp_path / "whole", rows, None)
    with pytest.raises(Killed):
        run_stage(ranker, tmp_path / "killed", rows, die_after=8)
    parts = sorted(path.name for path in (tmp_path / "killed/work/parts").iterdir())
    assert parts == ["scores-00000.jsonl", "scores-00001.jsonl"]
    scored = _counted(monkeypatch, ranker)
    assert run_stage(ranker, tmp_path / "killed", rows, None) == whole
    assert scored == [3]  # the third shard's rows, and no others


def _counted(monkeypatch: pytest.MonkeyPatch, ranker: Contestant) -> list[int]:
    """The numbers of rows that the ranker is asked to score from now on."""
    scored: list[int] = []
    made: Callable[..., Any] = rank_stage._Shards._made

    def count(shards: Any, start: int) -> Any:
        scored.append(len(shards._rows[start : start + rank_stage.SHARD_ROWS]))
        return made(shards, start)

    monkeypatch.setattr(rank_stage._Shards, "_made", count)
    return scored
