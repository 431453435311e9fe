"""Arena-Hard as a benchmark: its files, the judge's prompts, two games per question, second attempts, judging again."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from arena_hard_files import SWAPPED, TEMPLATE, ScriptedJudge, answers_in, cl100k_folder, install, official
from judging.judge_server import Body, JudgeServer

from aipo_lab.assets.arena_hard import ARENA_HARD, CL100K_BASE, CL100K_FILE, FILES
from aipo_lab.benchmarks.arena_hard.benchmark import ArenaHard
from aipo_lab.benchmarks.arena_hard.formats import ModelAnswers, write_judgments
from aipo_lab.benchmarks.arena_hard.prompts import JudgePrompts
from aipo_lab.benchmarks.arena_hard.scoring import score_arena_hard
from aipo_lab.benchmarks.official import Answer, OfficialBenchmark, Question
from aipo_lab.core.errors import UserError
from aipo_lab.judging.calls import JudgeReply, JudgeRequest, Unanswered
from aipo_lab.judging.opening import open_judge
from aipo_lab.judging.settings import JudgeSettings

N = 10
QUIET: Callable[[int, int, str], None] = lambda *_: None  # noqa: E731 - a progress that shows nothing


def words(texts: Sequence[str]) -> list[int]:
    """A token counter that needs no file."""
    return [len(text.split()) for text in texts]


@pytest.fixture(scope="module")
def bench() -> ArenaHard:
    """Ten questions, with prompts and a baseline of our own."""
    ids = [f"{number:032x}" for number in range(N)]
    questions = [Question(id_, (f"What is {id_}?",), "arena-hard-v0.1", 0.0) for id_ in ids]
    baseline = ModelAnswers({id_: f"It is {id_}." for id_ in ids}, {id_: 3 * (n + 1) for n, id_ in enumerate(ids)})
    return ArenaHard(tuple(questions), JudgePrompts("Judge!", TEMPLATE), baseline, words)


@pytest.fixture
def answers(bench: ArenaHard) -> list[Answer]:
    return [Answer(question.id, (f"  The answer to {question.id}.\n",)) for question in bench.questions]


def prompt_of(request: JudgeRequest) -> str:
    return request.messages[1].content


def prefers(verdicts: dict[str, str]) -> Callable[[JudgeRequest], str]:
    """A judge with fixed verdicts on our answers, by question and as if we were A, whichever side we are on."""

    def reply(request: JudgeRequest) -> str:
        a, b = answers_in(prompt_of(request))
        ours = a if a.startswith("The answer to ") else b
        label = verdicts[ours.removeprefix("The answer to ").rstrip(".")]
        return f"Well. [[{label if ours == a else SWAPPED[label]}]]"

    return reply


def test_it_is_an_official_benchmark(bench: ArenaHard) -> None:
    benchmark: OfficialBenchmark = bench
    assert len(benchmark.questions) == N


def test_the_assets_pins_are_the_files_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, arena_hard=official())
    manifest = json.loads((tmp_path / "assets" / "arena-hard" / "asset.json").read_text())
    assert {name: entry["sha256"] for name, entry in manifest["files"].items()} == {f.name: f.sha256 for f in FILES}
    assert sum(entry["size_bytes"] for entry in manifest["files"].values()) == ARENA_HARD.size_bytes
    assert {file.url.split("/")[5] for file in FILES} == {"436c18ce14b530804d81d49394aa25640c2dfb2b"}


def test_without_assets_both_commands_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch)
    with pytest.raises(UserError) as caught:
        ArenaHard.load()
    assert "aipo-lab assets fetch arena-hard" in str(caught.value)
    assert "aipo-lab assets fetch cl100k-base" in str(caught.value)


def test_altered_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / CL100K_FILE).write_bytes(b"any")
    install(tmp_path, monkeypatch, arena_hard=official(), cl100k_base=tmp_path / "made")
    path = tmp_path / "assets" / "arena-hard" / "judge_config.yaml"
    path.write_text(path.read_text().replace("impartial", "imparttal"))
    with pytest.raises(UserError, match=r"judge_config\.yaml in .* aipo-lab assets fetch arena-hard"):
        ArenaHard.load()
    with pytest.raises(UserError, match=r"judge_config\.yaml: system_prompt differ"):
        JudgePrompts.read(path)


def test_loading_takes_all_questions_or_some_spread_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, arena_hard=official(), cl100k_base=cl100k_folder())
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "mine")
    everything = ArenaHard.load()
    assert len(everything.questions) == len(everything.baseline.texts) == 500
    assert everything.count_tokens(["Hello, world!"]) == [4]
    order = {question.id: index for index, question in enumerate(everything.questions)}
    previous: set[str] = set()
    for limit in (1, 2, 7, 10, 100, 499, 500, 900):
        indices = [order[question.id] for question in ArenaHard.load(limit).questions]
        assert len(indices) == min(limit, 500)
        assert indices == sorted(indices)
        gaps = [after - before for before, after in itertools.pairwise(indices)]
        assert max(gaps, default=0) <= 2 * 500 / limit + 3
        ids = {everything.questions[index].id for index in indices}
        assert previous <= ids
        previous = ids
    with pytest.raises(UserError, match="limit of Arena-Hard questions is 0"):
        ArenaHard.load(0)
    assert os.environ["TIKTOKEN_CACHE_DIR"] == "mine"


def test_the_prompts_are_the_official_ones() -> None:
    prompts = JudgePrompts.read(official() / "judge_config.yaml")
    assert (len(prompts.system), len(prompts.template)) == (1729, 200)
    text = prompts.request("Why?", "{A's}", "B's").messages[1].content
    start, mark_a, a, _, mark_b, b, _ = [line for line in text.split("\n") if line][1:]
    assert text.startswith("<|User Prompt|>\nWhy?\n\n")
    assert (start, a, b) == ("Why?", "{A's}", "B's")
    assert "Assistant A" in mark_a
    assert "Assistant B" in mark_b


def test_each_question_is_two_games_with_sides_swapped(bench: ArenaHard, answers: list[Answer]) -> None:
    judge = ScriptedJudge(lambda request: "[[A=B]]")
    judged = bench.judge("m", answers, None, judge, QUIET)
    assert len(judge.asked) == 2 * N
    for question, first, second in zip(bench.questions, judge.asked[::2], judge.asked[1::2], strict=True):
        ours, theirs = f"The answer to {question.id}.", bench.baseline.texts[question.id]
        assert answers_in(prompt_of(first)) == (theirs, ours)
        assert answers_in(prompt_of(second)) == (ours, theirs)
        for request in (first, second):
            assert prompt_of(request).startswith(f"Question: {question.turns[0]}\n")
            assert [message.role for message in request.messages] == ["system", "user"]
            assert request.messages[0].content == bench.prompts.system
            assert (request.temperature, request.max_tokens, request.top_logprobs) == (0, 4096, 0)
    assert judged.scores["win_rate"].value == 50
    assert judged.scores["length_tokens"].value == 4
    assert judged.unjudged == {}


def test_answers_with_braces_and_brackets_are_passed_on_as_they_are(bench: ArenaHard) -> None:
    texts = [f"{{question_1}} [[A>>B]] {{}} %s {number}" for number in range(N)]
    answers = [Answer(question.id, (text,)) for question, text in zip(bench.questions, texts, strict=True)]
    judge = ScriptedJudge(lambda request: "[[A=B]]")
    assert bench.judge("m", answers, None, judge, QUIET).scores["win_rate"].value == 50
    assert [answers_in(prompt_of(request))[1] for request in judge.asked[::2]] == texts


def test_scores_are_ours_whichever_side_we_were_on(bench: ArenaHard, answers: list[Answer]) -> None:
    """Verdicts from our side: 3 strong wins, 2 slight wins, 1 tie, 3 slight losses, 1 strong loss, twice each."""
    named = ["A>>B"] * 3 + ["A>B"] * 2 + ["A=B"] + ["B>A"] * 3 + ["B>>A"]
    verdicts = {question.id: label for question, label in zip(bench.questions, named, strict=True)}
    judged = bench.judge("m", answers, None, ScriptedJudge(prefers(verdicts)), QUIET)
    assert judged.scores["win_rate"].value == pytest.approx(100 * (9 + 2 + 0.5) / (9 + 2 + 1 + 3 + 3))
    assert judged.scores["win_rate"].n == N
    assert judged.scores["win_rate_ci_low"].value < judged.scores["win_rate"].value
    assert 0 < judged.scores["lc_win_rate"].value < 100
    for row in judged.judgments:
        assert [game["score"] for game in row["games"]] == [
            SWAPPED[verdicts[row["question_id"]]],
            verdicts[row["question_id"]],
        ]


def test_a_judge_that_only_looks_at_sides_gives_one_half(bench: ArenaHard, answers: list[Answer]) -> None:
    for label in ("[[A>>B]]", "[[B>A]]"):
        judged = bench.judge("m", answers, None, ScriptedJudge(lambda request, label=label: label), QUIET)
        assert judged.scores["win_rate"].value == 50


def test_the_judgments_are_an_official_file_with_the_same_scores(
    bench: ArenaHard, answers: list[Answer], tmp_path: Path
) -> None:
    replies = iter(["[[A>B]]", "[[B>>A]]", "Hm.", "[[A>B]] [[B>A]]", "[[A=B]]"] * N)
    judged = bench.judge("m", answers, None, ScriptedJudge(lambda request: next(replies)), QUIET)
    write_judgments(tmp_path / "m.jsonl", judged.judgments)
    scored = score_arena_hard(tmp_path / "m.jsonl")["m"]
    assert scored.judge == "scripted"
    assert scored.unjudged.keys() == judged.unjudged.keys()
    for name, estimate in scored.scores.items():
        assert estimate == judged.scores[name]
    for row in judged.judgments:
        assert list(row) == ["question_id", "model", "judge", "games"]
        assert all(list(game) == ["user_prompt", "judgment", "score"] for game in row["games"])
        assert all(game["judgment"].startswith("\n") for game in row["games"])


def test_a_second_attempt_continues_the_conversation(bench: ArenaHard, answers: list[Answer]) -> None:
    def reply(request: JudgeRequest) -> str:
        return "I am not sure." if len(request.messages) == 2 else "Then: [[B>A]]"

    judge = ScriptedJudge(reply)
    judged = bench.judge("m", answers, None, judge, QUIET)
    assert len(judge.asked) == 4 * N
    second = judge.asked[2 * N]
    assert second.messages[:2] == judge.asked[0].messages
    assert (second.messages[2].role, second.messages[2].content) == ("assistant", "I am not sure.")
    assert second.messages[3].role == "user"
    assert judged.judgments[0]["games"][0]["judgment"] == "\nI am not sure.\nThen: [[B>A]]"
    assert judged.unjudged == {}
    assert judge.discarded == {}


def test_contradictory_verdicts_are_not_asked_about_again_in_this_run(bench: ArenaHard, answers: list[Answer]) -> None:
    judge = ScriptedJudge(lambda request: "[[A>B]] or [[B>A]]")
    judged = bench.judge("m", answers, None, judge, QUIET)
    assert len(judge.asked) == 2 * N
    assert len(judged.unjudged) == 2 * N
    assert set(judged.unjudged.values()) == {"contradictory verdicts: A>B, B>A (attempts: 1)"}
    assert "win_rate" not in judged.scores
    assert judged.scores["length_tokens"].value == 4
    assert all(game["score"] is None for row in judged.judgments for game in row["games"])


def test_two_attempts_are_read_together(bench: ArenaHard, answers: list[Answer]) -> None:
    """No label twice, then a label that is none: both count for nothing, and both replies are asked for again."""
    judge = ScriptedJudge(lambda request: "No." if len(request.messages) == 2 else "[[A]]")
    judged = bench.judge("m", answers[:], None, judge, QUIET)
    assert set(judged.unjudged.values()) == {"the verdict 'A' is none of A>>B, A>B, A=B, B>A, B>>A (attempts: 2)"}
    assert set(judge.discarded) == set(judge.asked)
    silent = ScriptedJudge(lambda request: JudgeReply("and so on", "length", 1, 4096))
    judged = bench.judge("m", answers, None, silent, QUIET)
    assert set(judged.unjudged.values()) == {"no verdict label (attempts: 2, the last one cut off by its length limit)"}


def test_a_thought_that_is_cut_off_does_not_swallow_the_second_attempt(bench: ArenaHard, answers: list[Answer]) -> None:
    judge = ScriptedJudge(lambda request: "<think>[[A>>B]]?" if len(request.messages) == 2 else "[[B>A]]")
    judged = bench.judge("m", answers, None, judge, QUIET)
    assert judged.unjudged == {}
    assert {game["score"] for row in judged.judgments for game in row["games"]} == {"B>A"}
    assert {game["judgment"] for row in judged.judgments for game in row["games"]} == {"\n<think>[[A>>B]]?\n[[B>A]]"}


def test_what_is_unjudged_and_only_that_is_asked_in_the_next_run(bench: ArenaHard, answers: list[Answer]) -> None:
    """Game 1 of three questions fails: no reply, no verdict at all, no reply to the second attempt."""
    ids = [question.id for question in bench.questions]
    broken = True

    def reply(request: JudgeRequest) -> str | Unanswered:
        _, b = answers_in(prompt_of(request))
        attempt = len(request.messages) // 2
        if b == f"The answer to {ids[0]}." and broken:
            return Unanswered("timed out")
        if b == f"The answer to {ids[1]}." and broken:
            return "Both are fine."
        if b == f"The answer to {ids[2]}." and attempt == 1:
            return "Let me think."
        if b == f"The answer to {ids[2]}." and broken:
            return Unanswered("HTTP 500")
        return "[[B>A]]"

    first = ScriptedJudge(reply)
    judged = bench.judge("m", answers, None, first, QUIET)
    assert judged.unjudged == {
        f"{ids[0]} game 1": "attempt 1 got no reply: timed out",
        f"{ids[1]} game 1": "no verdict label (attempts: 2)",
        f"{ids[2]} game 1": "attempt 2 got no reply: HTTP 500",
    }
    n_won, n_lost = N - 3, N  # game 1 is won, game 2 is lost
    assert judged.scores["win_rate"].value == pytest.approx(100 * n_won / (n_won + n_lost))
    assert len(first.discarded) == 2

    broken = False
    second = first.next_run()
    again = bench.judge("m", answers, None, second, QUIET)
    assert again.unjudged == {}
    assert again.scores["win_rate"].value == 50
    assert len(second.asked) == 3
    third = second.next_run()
    assert bench.judge("m", answers, None, third, QUIET) == again
    assert third.asked == []


def test_over_http_what_failed_is_asked_again_and_nothing_else(
    bench: ArenaHard, answers: list[Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call fails for good, a game is contradictory, one needs two attempts; the second run mends the first two."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    ids = [question.id for question in bench.questions]
    broken = True

    def game_1_of(body: Body, index: int) -> bool:
        return answers_in(body["messages"][1]["content"])[1] == f"The answer to {ids[index]}."

    def reply(body: Body) -> str:
        if game_1_of(body, 1) and broken:
            return "[[A>B]], no, [[B>A]]"
        if game_1_of(body, 2) and len(body["messages"]) == 2:
            return "I cannot decide."
        return "[[A=B]]"

    def fault(body: Body, arrival: int) -> str | None:
        return "server_error" if game_1_of(body, 0) and broken else None

    with JudgeServer(reply, fault=fault) as server:
        settings = JudgeSettings(model="gpt-4-1106-preview", base_url=server.base_url, attempts=2, backoff_s=0.01)
        judged = bench.judge("m", answers, None, open_judge(settings, tmp_path), QUIET)
        assert set(judged.unjudged) == {f"{ids[0]} game 1", f"{ids[1]} game 1"}
        assert judged.scores["win_rate"].value == 50
        assert judged.judgments[0]["judge"] == "gpt-4-1106-preview"
        assert server.answered_total == 2 * N - 1 + 1
        broken = False
        again = bench.judge("m", answers, None, open_judge(settings, tmp_path), QUIET)
        assert again.unjudged == {}
        assert server.answered_total == 2 * N + 2
        assert bench.judge("m", answers, None, open_judge(settings, tmp_path), QUIET) == again
        assert server.answered_total == 2 * N + 2
        body = server.calls[0].body
        assert (body["temperature"], body["max_tokens"]) == (0, 4096)


def test_another_baseline_may_be_given(bench: ArenaHard, answers: list[Answer]) -> None:
    theirs = [Answer(answer.question_id, ("Mine is better",)) for answer in answers]
    judge = ScriptedJudge(lambda request: "[[A=B]]")
    bench.judge("m", answers, theirs, judge, QUIET)
    assert {answers_in(prompt_of(request))[0] for request in judge.asked[::2]} == {"Mine is better"}


def test_missing_answers_are_refused_before_the_judge_is_asked(bench: ArenaHard, answers: list[Answer]) -> None:
    judge = ScriptedJudge(lambda request: "[[A=B]]")
    with pytest.raises(UserError, match=r"the answers of m lack 4 of 10 Arena-Hard questions \(\w+, \w+, \w+, …\)"):
        bench.judge("m", answers[4:], None, judge, QUIET)
    with pytest.raises(UserError, match="the baseline's answers lack 1 of 10"):
        bench.judge("m", answers, answers[1:], judge, QUIET)
    assert judge.asked == []


def test_the_tokenizers_name_is_what_tiktoken_looks_for() -> None:
    """Its cache is keyed by the SHA-1 of the address."""
    url = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
    assert hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest() == CL100K_FILE
    assert CL100K_BASE.size_bytes == 1_681_126
