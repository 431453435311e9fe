"""MT-Bench from its official files: asset, questions, what the judge is asked, and grading a model's answers."""

from __future__ import annotations

import functools
import http.server
import json
import os
import socket
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from judging.judge_server import Body, JudgeServer

import aipo_lab.assets.library as assets
from aipo_lab.assets import mt_bench as mt_bench_asset
from aipo_lab.assets.download import fetch_files, fetching
from aipo_lab.benchmarks.mt_bench.answers import check_answers, read_answers
from aipo_lab.benchmarks.mt_bench.benchmark import MtBench
from aipo_lab.benchmarks.mt_bench.judgments import score_mt_bench
from aipo_lab.benchmarks.mt_bench.prompts import REFERENCE_MODELS, reference_model
from aipo_lab.benchmarks.mt_bench.questions import CATEGORIES, category_of
from aipo_lab.benchmarks.official import Answer, Judged, OfficialBenchmark, Question
from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import read_jsonl, write_jsonl
from aipo_lab.core.progress import Progress
from aipo_lab.judging.calls import Judge, JudgeReply, JudgeRequest, Outcome, Unanswered
from aipo_lab.judging.opening import open_judge
from aipo_lab.judging.settings import JudgeSettings

FETCH = "aipo-lab assets fetch mt-bench"


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Nothing on stderr."""


@pytest.fixture(scope="module")
def official() -> Path:
    """The official files of the machine that runs the tests."""
    if "AIPO_LAB_ASSETS" not in os.environ:
        pytest.skip("AIPO_LAB_ASSETS is not set: no official MT-Bench files here")
    return Path(os.environ["AIPO_LAB_ASSETS"]) / "mt_bench"


@pytest.fixture(scope="module")
def cache(official: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An asset cache into which `mt-bench` was fetched over HTTP, from a server of the official files."""
    handler = functools.partial(QuietHandler, directory=str(official))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    local = [replace(file, url=f"http://127.0.0.1:{server.server_port}/{file.name}") for file in mt_bench_asset.FILES]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIPO_LAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("NO_PROXY", "127.0.0.1")
        served = replace(mt_bench_asset.MT_BENCH, build=fetching(local), files=tuple(local))
        patch.setitem(assets._ASSETS, "mt-bench", served)
        yield assets.fetch("mt-bench")
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def bench(cache: Path) -> MtBench:
    return MtBench.load()


@pytest.mark.slow
def test_every_pinned_address_serves_the_pinned_file(tmp_path: Path) -> None:
    try:
        socket.getaddrinfo("raw.githubusercontent.com", 443)
    except OSError:
        pytest.skip("no network")
    fetch_files(mt_bench_asset.FILES, tmp_path, print)


def test_the_pins_are_those_of_the_compatibility_notes() -> None:
    prefixes = {file.name: file.sha256[:16] for file in mt_bench_asset.FILES}
    assert prefixes["question.jsonl"] == "119565adbab82227"
    assert prefixes["judge_prompts.jsonl"] == "fd283293406d024f"


def test_without_the_asset_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIPO_LAB_CACHE", str(tmp_path))
    monkeypatch.setitem(assets._ASSETS, "mt-bench", mt_bench_asset.MT_BENCH)
    with pytest.raises(UserError, match=FETCH):
        MtBench.load()


def test_altered_files_are_refused(cache: Path) -> None:
    path = cache / "judge_prompts.jsonl"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("impartial", "imparttal"), encoding="utf-8")
    try:
        with pytest.raises(UserError, match=rf"judge_prompts\.jsonl in .*{FETCH}"):
            MtBench.load()
    finally:
        path.write_text(text, encoding="utf-8")
    assert MtBench.load().questions


def test_there_are_80_questions_of_two_turns_in_official_order(bench: MtBench, official: Path) -> None:
    assert [question.id for question in bench.questions] == [str(number) for number in range(81, 161)]
    for question, row in zip(bench.questions, read_jsonl(official / "question.jsonl"), strict=True):
        assert list(question.turns) == row["turns"]
        assert question.category == row["category"] == category_of(row["question_id"])
    greedy = {question.category for question in bench.questions if question.temperature == 0}
    assert greedy == {"extraction", "math", "coding", "reasoning"}
    assert {q.temperature for q in bench.questions if q.category in ("writing", "roleplay")} == {0.7}
    assert {q.temperature for q in bench.questions if q.category in ("stem", "humanities")} == {0.1}


def test_a_limit_is_spread_over_the_categories(cache: Path) -> None:
    previous: set[str] = set()
    for limit in (1, 3, 8, 10, 79, 80, 200):
        questions = MtBench.load(limit).questions
        counts = [sum(question.category == category for question in questions) for category in CATEGORIES]
        ids = [question.id for question in questions]
        assert len(ids) == min(limit, 80)
        assert max(counts) - min(counts) <= 1
        assert ids == sorted(ids, key=int)
        assert previous <= set(ids)
        previous = set(ids)
    with pytest.raises(UserError, match="limit of MT-Bench questions is 0"):
        MtBench.load(0)


@pytest.mark.parametrize(
    ("judge", "references"),
    [
        ("gpt-4", "gpt-4"),
        ("gpt-4-1106-preview", "gpt-4-1106-preview"),
        ("openai/gpt-4-1106-preview", "gpt-4-1106-preview"),
        ("gpt-4-0613", "gpt-4"),
        ("my-local-judge", "gpt-4"),
    ],
)
def test_the_judges_name_decides_on_the_references(judge: str, references: str) -> None:
    assert reference_model(judge) == references


@pytest.mark.parametrize("model", REFERENCE_MODELS)
def test_references_are_those_of_questions_101_to_130(bench: MtBench, model: str) -> None:
    assert set(bench.grading.references[model]) == {str(number) for number in range(101, 131)}


def answers_to(questions: Sequence[Question], text: str = "Answer") -> list[Answer]:
    """Answers with braces, which templates must not touch."""
    return [Answer(q.id, (f"{text} {{1}} to {q.id}", f"{text} {{question}} two to {q.id}")) for q in questions]


class ScriptedJudge:
    """A judge in this process: `outcomes` by (question id, turn) in place of its rating of 5."""

    def __init__(self, bench: MtBench, name: str = "gpt-4", outcomes: dict[tuple[str, int], Outcome] | None = None):
        self.name = name
        self.keys = [(question.id, turn) for question in bench.questions for turn in (1, 2)]
        self.outcomes = outcomes or {}
        self.asked: list[JudgeRequest] = []
        self.discarded: list[tuple[JudgeRequest, str]] = []

    def ask(self, requests: Sequence[JudgeRequest], progress: Progress) -> list[Outcome]:
        self.asked += requests
        progress(len(requests), len(requests), "calls")
        return [self.outcomes.get(key, reply("Rating: [[5]]")) for key in self.keys[: len(requests)]]

    def discard(self, request: JudgeRequest, reason: str) -> None:
        self.discarded.append((request, reason))


def reply(text: str, finish_reason: str = "stop") -> JudgeReply:
    return JudgeReply(text, finish_reason, 10, 5)


def no_progress(done: int, total: int, unit: str) -> None:
    pass


def run(bench: MtBench, judge: Judge) -> Judged:
    benchmark: OfficialBenchmark = bench
    return benchmark.judge("m", answers_to(bench.questions), None, judge, no_progress)


def test_a_model_costs_160_calls_with_the_official_parameters(bench: MtBench) -> None:
    judge = ScriptedJudge(bench)
    judged = run(bench, judge)
    assert len(judge.asked) == len(set(judge.asked)) == len(judged.judgments) == 160
    assert {(request.temperature, request.max_tokens, request.top_logprobs) for request in judge.asked} == {
        (0, 2048, 0)
    }
    assert {tuple(message.role for message in request.messages) for request in judge.asked} == {("system", "user")}
    assert {name: (score.value, score.se) for name, score in judged.scores.items()} == dict.fromkeys(
        ("score", "score_turn1", "score_turn2", *(f"score_{c}" for c in CATEGORIES)), (5, 0)
    )
    assert not judged.unjudged


@pytest.mark.parametrize("judge_name", REFERENCE_MODELS)
def test_prompts_are_the_official_texts_with_the_conversation_filled_in(
    bench: MtBench, official: Path, judge_name: str
) -> None:
    templates = {row["name"]: row for row in read_jsonl(official / "judge_prompts.jsonl")}
    references = {
        row["question_id"]: row["choices"][0]["turns"]
        for row in read_jsonl(official / "reference_answer" / f"{judge_name}.jsonl")
    }
    rows = run(bench, judge := ScriptedJudge(bench, judge_name)).judgments
    with_reference = [row for row in rows if "math" in row["judge"][1]]
    assert len(with_reference) == 60
    assert {row["question_id"] for row in with_reference} == set(range(101, 131))
    for row, request, key in zip(rows, judge.asked, judge.keys, strict=True):
        id_, turn = row["question_id"], row["turn"]
        assert (str(id_), turn) == key
        kind = "single-math-v1" if 101 <= id_ <= 130 else "single-v1"
        assert row["judge"] == [judge_name, kind if turn == 1 else f"{kind}-multi-turn"]
        template = templates[row["judge"][1]]
        question = bench.questions[id_ - 81]
        answer = answers_to([question])[0]
        fields = {"question": question.turns[0], "answer": answer.turns[0]}
        fields |= {
            f"{what}_{n}": turns[n - 1]
            for what, turns in (("question", question.turns), ("answer", answer.turns))
            for n in (1, 2)
        }
        fields |= {f"ref_answer_{n}": references[id_][n - 1] for n in (1, 2) if id_ in references}
        assert request.messages[0].content == template["system_prompt"]
        assert request.messages[1].content == row["user_prompt"] == fill(template["prompt_template"], fields)


def fill(template: str, fields: dict[str, str]) -> str:
    """The template piece by piece, without `str.format`."""
    pieces = []
    while "{" in template:
        before, _, rest = template.partition("{")
        name, _, template = rest.partition("}")
        pieces += [before, fields[name]]
    return "".join([*pieces, template])


def test_what_has_no_rating_is_listed_and_never_counted(bench: MtBench, tmp_path: Path) -> None:
    unusable: dict[tuple[str, int], Outcome] = {
        ("81", 1): reply("I would rather not say."),
        ("81", 2): reply("Rating: [[05]]"),
        ("111", 2): reply("Let me think about", "length"),
        ("160", 2): Unanswered("HTTP 503 after 6 attempts"),
    }
    judged = run(bench, judge := ScriptedJudge(bench, outcomes=unusable))
    assert judged.scores["score"].value == 5
    assert judged.scores["score"].n == 156
    assert judged.scores["score_writing"].n == 18
    assert set(judged.unjudged) == {"81, turn 1", "81, turn 2", "111, turn 2", "160, turn 2"}
    assert judged.unjudged["160, turn 2"] == "HTTP 503 after 6 attempts"
    assert judged.unjudged["111, turn 2"] == "no number in square brackets (the reply ended by: length)"
    discarded = [request for request, _ in judge.discarded]
    assert discarded == [judge.asked[judge.keys.index(key)] for key in list(unusable)[:3]]
    assert [row["score"] for row in judged.judgments].count(-1) == 3
    assert len(judged.judgments) == 159
    write_jsonl(tmp_path / "gpt-4_single.jsonl", judged.judgments)
    file_scores = score_mt_bench(tmp_path / "gpt-4_single.jsonl")["m"]
    assert file_scores.scores == judged.scores
    assert set(file_scores.unjudged) == set(judged.unjudged)


def test_replies_that_rate_twice_or_in_another_form_are_noted(bench: MtBench) -> None:
    odd: dict[tuple[str, int], Outcome] = {
        ("81", 1): reply("[[5]], or rather [[9]]"),
        ("81", 2): reply("Rating: [[8/10]]"),
        ("82", 1): reply("<think>[[9]]?</think>[[5]]"),
    }
    judged = run(bench, ScriptedJudge(bench, outcomes=odd))
    assert judged.scores["score"].value == 5
    assert "[[8/10]]" in judged.unjudged["81, turn 2"]
    assert [note.split(";")[0] for note in judged.notes] == [
        "1 replies hold several different ratings",
        "1 replies hold no rating in FastChat's form, [[number]], but e.g. [[8/10]]",
    ]


def test_nothing_rated_gives_no_score(cache: Path) -> None:
    bench = MtBench.load(2)
    judge = ScriptedJudge(
        bench, outcomes=dict.fromkeys([(q.id, t) for q in bench.questions for t in (1, 2)], reply("-1"))
    )
    judged = run(bench, judge)
    assert judged.scores == {}
    assert len(judged.unjudged) == 4


def test_judgments_are_rows_of_the_official_format(bench: MtBench) -> None:
    row = run(bench, ScriptedJudge(bench, "gpt-4-1106-preview")).judgments[61]
    assert list(row) == ["question_id", "model", "judge", "user_prompt", "judgment", "score", "turn", "tstamp"]
    assert (row["question_id"], row["model"], row["score"], row["turn"]) == (111, "m", 5, 2)
    assert row["judge"] == ["gpt-4-1106-preview", "single-math-v1-multi-turn"]
    assert row["judgment"] == "Rating: [[5]]"
    assert json.loads(json.dumps(row)) == row


def test_answers_that_cannot_be_judged_are_all_named_before_any_call(bench: MtBench) -> None:
    answers = answers_to(bench.questions)
    answers = [*answers[2:], answers[5], Answer("90", ("only one",)), Answer("7", ("a", "b"))]
    answers = [answer for index, answer in enumerate(answers) if not (answer.question_id == "90" and index < 70)]
    judge = ScriptedJudge(bench)
    with pytest.raises(UserError) as caught:
        bench.judge("mistral-7b", answers, None, judge, no_progress)
    message = str(caught.value)
    assert "the answers of mistral-7b" in message
    assert "no answer to 2 questions: 81, 82\n" in message
    assert "several answers to question 86\n" in message
    assert "not one text per turn for question 90\n" in message
    assert "MT-Bench has no question 7" in message
    assert not judge.asked


def test_a_limited_benchmark_judges_its_part_of_all_answers(bench: MtBench, cache: Path) -> None:
    limited = MtBench.load(8)
    judge = ScriptedJudge(limited)
    limited.judge("m", answers_to(bench.questions), None, judge, no_progress)
    assert len(judge.asked) == 16


def test_the_official_reference_files_are_answer_files(official: Path) -> None:
    for name in REFERENCE_MODELS:
        model, answers = read_answers(official / "reference_answer" / f"{name}.jsonl")
        assert model == name
        assert len(answers) == 30


def test_complete_answers_pass_the_check(bench: MtBench) -> None:
    answers = answers_to(bench.questions)
    assert check_answers("m", answers, bench.questions) == {answer.question_id: answer for answer in answers}


def rating_by_content(body: Body) -> int:
    """1 to 10, spread over contents without any pattern."""
    return 1 + zlib.crc32(body["messages"][-1]["content"].encode()) % 10


def test_grading_through_a_real_server_asks_again_only_for_what_has_no_rating(cache: Path, tmp_path: Path) -> None:
    bench = MtBench.load(10)
    silent = {"Answer {question} two to 81", "Answer {1} to 91"}

    def verdict(body: Body) -> str:
        undecided = any(text in body["messages"][-1]["content"] for text in silent)
        return "Hard to say." if undecided else f"Explanation first. Rating: [[{rating_by_content(body)}]] [[1]]"

    with JudgeServer(verdict) as server:
        settings = JudgeSettings(model="gpt-4", base_url=server.base_url)
        first = run(bench, open_judge(settings, tmp_path / "calls"))
        assert set(first.unjudged) == {"81, turn 2", "91, turn 1", "91, turn 2"}
        assert first.scores["score"].n == 17
        silent.clear()
        second = run(bench, open_judge(settings, tmp_path / "calls"))
        assert server.answered_total == 20 + 3
        third = run(bench, open_judge(settings, tmp_path / "calls"))
        assert server.answered_total == 20 + 3
        ratings = {call.content: rating_by_content(call.body) for call in server.calls}
    assert second == third
    assert not second.unjudged
    assert {row["user_prompt"]: row["score"] for row in second.judgments} == ratings
    assert second.scores["score"].value == pytest.approx(sum(ratings.values()) / 20)
    assert {row["judge"][0] for row in second.judgments} == {"gpt-4"}
