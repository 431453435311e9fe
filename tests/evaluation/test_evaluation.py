"""`aipo-lab evaluate` as a user meets it: all three official benchmarks, a real small model, a judge that fails."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from judging.judge_server import TRANSIENT_FAULTS, Body, Gate, JudgeServer, canonical, wait_until
from official_assets import KEY

from aipo_lab.browsing.answers import read_questions
from aipo_lab.browsing.entries import evaluation_entries, with_baselines
from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import read_json, read_jsonl
from aipo_lab.evaluation.evaluation import answer_files, evaluation_config
from aipo_lab.evaluation.scoring import alpaca_eval, arena_hard, mt_bench

AIPO_LAB = str(Path(sys.executable).with_name("aipo-lab"))
ALL = "alpaca_eval,arena_hard,mt_bench"
N_CALLS = {"alpaca_eval": 10, "arena_hard": 20, "mt_bench": 20}
JUDGE = "gpt-4-1106-preview"
LABELS = ("A>>B", "A>B", "A=B", "B>A", "B>>A")


def number_of(body: Body) -> int:
    return zlib.crc32(canonical(body).encode())


def reply(body: Body) -> str:
    """A verdict of the kind that the benchmark asks for; which one depends on the whole request."""
    if body.get("logprobs"):
        return "mM"[number_of(body) % 2]
    if "[[A>>B]]" in body["messages"][0]["content"]:
        return f"I compared them.\nMy final verdict is: [[{LABELS[number_of(body) % 5]}]]"
    return f"A plausible answer.\nRating: [[{1 + number_of(body) % 10}]]"


def logprobs(body: Body) -> dict[str, float]:
    return {"m": -0.2 - number_of(body) % 9 / 10, "M": -0.9}


def fault(body: Body, arrival: int) -> str | None:
    """Two calls of five fail once or twice before they are answered, in every way a server can fail."""
    kinds = sorted(TRANSIENT_FAULTS)
    n = number_of(body)
    return kinds[(n + arrival) % len(kinds)] if n % 5 < 2 and arrival <= n % 2 else None


def command(model: Path, server: JudgeServer, folder: Path, *more: str, benchmarks: str = ALL) -> list[str]:
    settings = {
        **{f"benchmarks.{name}.max_new_tokens": 12 for name in benchmarks.split(",")},
        "benchmarks.judge.base_url": server.base_url,
        "benchmarks.judge.backoff_s": 0.02,
        "benchmarks.judge.timeout_s": 1,
        "benchmarks.judge.concurrency": 4,
    }
    given = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    places = ["--out", str(folder / "out"), "--store", str(folder / "store")]
    return [AIPO_LAB, "evaluate", "--model", str(model), "--benchmarks", benchmarks, *places, *given, *more]


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, env=os.environ | {"COLUMNS": "160"}, capture_output=True, text=True, timeout=200)


def start_and_kill(arguments: list[str], server: JudgeServer, gate: Gate, store: Path, at: int) -> None:
    """Kill the command, without warning, once it has stored so many replies and waits for others."""
    gate.raise_to(at)
    with store.with_suffix(".err").open("w") as errors:
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=errors)
        wait_until(lambda: gate.passed == at and server.answered_total == n_stored(store), 120)
        workers = workers_on(store)
        assert workers
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_until(lambda: not any(worker.exists() for worker in workers))  # only now are their connections closed


def n_stored(store: Path) -> int:
    return len(list(store.glob("judge-calls/*/*.json")))


def workers_on(store: Path) -> list[Path]:
    """The worker processes that work in this store, by their folders in /proc."""
    name = f"aipo_lab.execution.worker\0{store}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found += [process] if name in (process / "cmdline").read_bytes() else []
    return found


def calls_by_benchmark(server: JudgeServer) -> dict[str, int]:
    counts = dict.fromkeys(N_CALLS, 0)
    for body in map(json.loads, server.answered):
        is_arena = "[[A>>B]]" in body["messages"][0]["content"]
        counts["alpaca_eval" if body.get("logprobs") else "arena_hard" if is_arena else "mt_bench"] += 1
    return counts


def test_killed_twice_on_a_faulty_server_it_completes_and_makes_each_call_once(
    cache: Path, base_model_folder: Path, tmp_path: Path
) -> None:
    gate, store = Gate(), tmp_path / "store"
    with JudgeServer(reply, logprobs=logprobs, fault=fault, before_answer=gate, hang_s=2) as server:
        arguments = command(base_model_folder, server, tmp_path, "--limit", "10", "--json")
        patient = [*arguments, "--set", "benchmarks.judge.timeout_s=60"]  # hangs up on no answer that the gate holds
        start_and_kill(patient, server, gate, store, at=7)
        start_and_kill(patient, server, gate, store, at=29)
        assert len(list(store.glob(".judge-costs*"))) == 1  # of the second kill; the second command removed the first's
        gate.raise_to(10_000)
        last = run(arguments)
        assert not list(store.glob(".judge-costs*"))
        assert last.returncode == 0, last.stderr
        again = run(arguments)
        assert server.answered_once()
        assert calls_by_benchmark(server) == N_CALLS
        assert len({call.fault for call in server.calls}) > 5  # the server did fail, in many ways
    assert json.loads(again.stdout) == json.loads(last.stdout)
    assert "0 calls" in again.stderr
    _assert_official_files_give_the_same_scores(tmp_path / "out", json.loads(last.stdout))
    _assert_it_can_be_browsed(tmp_path / "out", tmp_path / "baselines")
    for text in (last.stdout, last.stderr, again.stderr):
        assert KEY not in text
    written = [path for path in tmp_path.rglob("*") if path.is_file() and cache not in path.parents]
    assert len(written) > 60
    assert not [path for path in written if KEY.encode() in path.read_bytes()]


def _assert_official_files_give_the_same_scores(out: Path, printed: dict[str, Any]) -> None:
    """What `aipo-lab score` says of the files that were written."""
    (annotations,) = (out / "alpaca_eval").glob("*/annotations.json")
    scored = [alpaca_eval(annotations, out / "alpaca_eval" / "model_outputs.json")]
    scored += arena_hard(out / "arena_hard" / "model_judgment" / JUDGE, out / "arena_hard" / "model_answer")
    (judgments,) = (out / "mt_bench" / "model_judgment").glob("*_single.jsonl")
    scored += mt_bench(judgments, None)
    assert [one.model for one in scored] == ["model"] * 3  # the model's folder is called that
    for one in scored:
        for metric, estimate in one.scores.items():
            if metric in printed:  # the baseline's answers are not in the folder: no length control from files alone
                assert printed[metric] == pytest.approx(estimate.value), metric
    assert {"alpaca_eval/win_rate", "arena_hard/win_rate", "mt_bench/score"} < printed.keys()


def _assert_it_can_be_browsed(out: Path, folder: Path) -> None:
    """Each benchmark's answers, led by those they were compared with."""
    entries, notes = with_baselines(evaluation_entries(out), folder)
    assert notes == []
    ours = [(name, "model") for name in N_CALLS]
    theirs = [(name, "official baseline") for name in ("alpaca_eval", "arena_hard")]
    assert sorted((entry.benchmark, entry.label) for entry in entries) == sorted(ours + theirs)
    for entry in entries:
        questions = read_questions(entry)
        assert len(questions) == 10 and all(question["turns"] for question in questions)
        judged = [question["judgment"] is not None for question in questions]
        assert set(judged) == {entry.label == "model"}


def test_answers_of_an_earlier_evaluation_are_judged_from_their_folder_without_new_calls(
    cache: Path, base_model_folder: Path, tmp_path: Path
) -> None:
    with JudgeServer(reply, logprobs=logprobs) as server:
        first = run(command(base_model_folder, server, tmp_path, "--limit", "3", "--json"))
        assert first.returncode == 0, first.stderr
        n_answered = server.answered_total
        moved = (tmp_path / "out").rename(tmp_path / "answers")
        again = run(command(moved, server, tmp_path, "--limit", "3", "--json"))
        assert again.returncode == 0, again.stderr
        assert server.answered_total == n_answered == 3 + 6 + 6
    ours, theirs = json.loads(first.stdout), json.loads(again.stdout)
    assert ours == theirs
    assert read_json(tmp_path / "out" / "evaluation.json")["model"] == "model"  # not "answers", as the folder is called
    rows = [read_jsonl(out / "mt_bench" / "model_answer" / "model.jsonl") for out in (tmp_path / "out", moved)]
    assert [{**row, "answer_id": ""} for row in rows[0]] == [{**row, "answer_id": ""} for row in rows[1]]


def test_replies_without_verdict_fail_with_the_reason_and_are_asked_again_until_allowed(
    cache: Path, base_model_folder: Path, tmp_path: Path
) -> None:
    def vague(body: Body) -> str:
        return "I cannot decide." if number_of(body) % 4 == 0 else reply(body)

    with JudgeServer(vague) as server:
        arguments = command(base_model_folder, server, tmp_path, "--limit", "8", benchmarks="mt_bench")
        refused = run(arguments)
        n_vague = sum(number_of(json.loads(body)) % 4 == 0 for body in server.answered)
        assert 0 < n_vague < 16
        assert refused.returncode == 1
        assert f"{n_vague} of 16 verdicts of mt_bench are missing" in refused.stderr
        assert "failed judge_official of mt_bench: " in refused.stderr
        assert "no number in square brackets" in refused.stderr
        assert "raise benchmarks.unjudged_share or try another judge" in refused.stderr
        assert server.answered_total == 16
        allowed = run([*arguments, "--set", "benchmarks.unjudged_share=0.9", "--json"])
        assert allowed.returncode == 0, allowed.stderr
        assert server.answered_total == 16 + n_vague  # each of these once more, nothing else
    scores = json.loads(allowed.stdout)
    assert scores["mt_bench/unjudged"] == pytest.approx(100 * n_vague / 16)
    stored = read_json(tmp_path / "out" / "mt_bench" / "scores.json")
    assert stored["score"]["n"] == 16 - n_vague
    assert f"mt_bench: {n_vague} of 16 verdicts are missing and count for nothing, the first: " in scores["notes"][-1]
    assert "no number in square brackets" in scores["notes"][-1]


def test_without_any_verdict_each_benchmark_says_so_and_earlier_results_stay(
    cache: Path, base_model_folder: Path, tmp_path: Path
) -> None:
    both = "alpaca_eval,mt_bench"
    earlier = tmp_path / "out" / "mt_bench" / "scores.json"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("{}")
    with JudgeServer(lambda body: "Hm.", logprobs=lambda body: {"[/INST]": -0.1}) as server:
        result = run(command(base_model_folder, server, tmp_path, "--limit", "2", benchmarks=both))
    assert result.returncode == 1
    assert "failed judge_official of alpaca_eval: not one of 2 verdicts of alpaca_eval was given" in result.stderr
    assert "failed judge_official of mt_bench: not one of 4 verdicts of mt_bench was given" in result.stderr
    assert "'[/INST]'" in result.stderr  # the judge's words are shown as they are
    assert "try another judge" in result.stderr and "unjudged_share" not in result.stderr
    assert read_json(tmp_path / "out" / "evaluation.json") == {"model": "model", "benchmarks": {}}
    assert earlier.read_text() == "{}"


def test_the_cost_limit_stops_it_and_a_higher_one_goes_on(cache: Path, base_model_folder: Path, tmp_path: Path) -> None:
    price = "benchmarks.judge.prices={gpt-4-1106-preview: {input: 0, output: 1000}}"  # 2.048 USD a call at most
    with JudgeServer(reply, completion_tokens=lambda body, text: 500) as server:
        arguments = command(base_model_folder, server, tmp_path, "--limit", "4", "--set", price, benchmarks="mt_bench")
        stopped = run([*arguments, "--max-cost", "4"])
        assert stopped.returncode == 1
        assert "the next call could pass the cost limit of $4.00" in stopped.stderr
        assert "higher --max-cost" in stopped.stderr
        n_paid = server.answered_total
        assert n_paid * 0.5 <= 4 and 2 <= n_paid < 8
        assert f"{n_paid} calls, ${n_paid * 0.5:.2f} of $4.00" in stopped.stderr
        finished = run([*arguments, "--max-cost", "20"])
        assert finished.returncode == 0, finished.stderr
        assert server.answered_once() and server.answered_total == 8
    assert not list((tmp_path / "store").glob(".judge-costs*"))


# ---- bad input: exit code 2, what is wrong and what to do, and nothing asked ----


def refused(arguments: list[str]) -> str:
    result = run(arguments)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


def test_missing_data_files_are_all_named_with_the_command_that_obtains_them(
    base_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIPO_LAB_CACHE", str(tmp_path / "empty"))
    with JudgeServer(reply) as server:
        text = refused(command(base_model_folder, server, tmp_path))
        assert not server.calls
    for asset in ("alpaca-eval", "arena-hard", "cl100k-base", "mt-bench"):
        assert f"aipo-lab assets fetch {asset}" in text


def test_without_a_key_nothing_is_generated_for_nothing(
    cache: Path, base_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    arguments = [AIPO_LAB, "evaluate", "--model", str(base_model_folder), "--benchmarks", "mt_bench"]
    text = refused([*arguments, "--store", str(tmp_path / "store"), "--out", str(tmp_path / "out")])
    assert "OPENAI_API_KEY" in text
    assert not list((tmp_path / "store").glob("answer_official/*"))


def test_a_judge_without_log_probabilities_is_named(cache: Path, base_model_folder: Path, tmp_path: Path) -> None:
    with JudgeServer(reply) as server:
        result = run(command(base_model_folder, server, tmp_path, "--limit", "3", benchmarks="alpaca_eval"))
        assert server.answered_total <= 4
    assert result.returncode == 1
    assert "log-probabilities" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_answer_file_that_lacks_questions_is_refused(cache: Path, base_model_folder: Path, tmp_path: Path) -> None:
    with JudgeServer(reply, logprobs=logprobs) as server:
        assert run(command(base_model_folder, server, tmp_path, "--limit", "2")).returncode == 0
        n_calls = len(server.calls)
        moved = (tmp_path / "out").rename(tmp_path / "answers")
        more = run(command(moved, server, tmp_path, "--limit", "5"))
        assert len(server.calls) == n_calls
    assert more.returncode == 1
    assert "lacks 3 of AlpacaEval 2's 5 questions" in more.stderr
    assert "lack 3 of 5 Arena-Hard questions" in more.stderr
    assert "no answer to 3 questions" in more.stderr


def test_a_folder_is_a_model_or_holds_one_answer_file_for_each_benchmark(tmp_path: Path) -> None:
    folder = tmp_path / "answers"
    (folder / "arena_hard" / "model_answer").mkdir(parents=True)
    (folder / "alpaca_eval").mkdir()
    outputs = folder / "alpaca_eval" / "model_outputs.json"
    outputs.write_text("[]")
    for name in ("a", "b"):
        (folder / "arena_hard" / "model_answer" / f"{name}.jsonl").touch()
    assert answer_files(folder, ["alpaca_eval"]) == {"alpaca_eval": outputs}
    assert answer_files(folder / "alpaca_eval", ["alpaca_eval"]) == {"alpaca_eval": outputs}
    assert answer_files(tmp_path / "nowhere", ["alpaca_eval"]) is None
    with pytest.raises(UserError) as caught:
        answer_files(folder, ["alpaca_eval", "arena_hard", "mt_bench"])
    text = str(caught.value)
    assert "arena_hard: 2 files" in text and "mt_bench: no file" in text and "alpaca_eval:" not in text


@pytest.mark.parametrize(
    ("benchmarks", "overrides", "parts"),
    [
        (["alpaca_evil"], [], ("unknown benchmark 'alpaca_evil'", "did you mean 'alpaca_eval'", "mt_bench")),
        (["micro"], [], ("compares with a sweep's base model",)),
        ([], [], ("no benchmark is named",)),
        (["mt_bench"], ["benchmarks.mt_bench.baseline=base_model"], ("MT-Bench grades answers on their own",)),
        (["mt_bench"], ["benchmarks.judge.modle=x"], ("did you mean 'model'",)),
        (["arena_hard"], ["benchmarks.arena_hard.temperature=-1"], ("benchmarks.arena_hard.temperature",)),
    ],
)
def test_settings_that_are_not_valid_are_refused(
    benchmarks: list[str], overrides: list[str], parts: tuple[str, ...]
) -> None:
    with pytest.raises(UserError) as caught:
        evaluation_config("somewhere", benchmarks, 3, None, overrides)
    for part in parts:
        assert part in str(caught.value)


def test_settings_of_a_command_are_the_defaults_but_for_what_is_given() -> None:
    limit = random.Random(0).randint(2, 9)
    config = evaluation_config("m", ["alpaca_eval"], limit, "a-judge", ["benchmarks.judge.concurrency=7", "seed=3"])
    assert config.benchmarks.judge is not None
    assert (config.benchmarks.judge.model, config.benchmarks.judge.concurrency, config.seed) == ("a-judge", 7, 3)
    settings = config.benchmarks.official()["alpaca_eval"]
    assert (settings.limit, settings.temperature, settings.top_k, settings.max_new_tokens) == (limit, 0.7, 50, 2048)
