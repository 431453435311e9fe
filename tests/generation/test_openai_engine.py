"""The `openai` engine when things go wrong: what is told, what is paid for, and whose weights are sampled."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from model_variants import make_variant

from aipo_lab.core.errors import StageFailed, UserError
from aipo_lab.generation.engine import Engine, SamplingConfig, open_engine
from aipo_lab.generation.openai_engine import OpenaiEngineSettings
from aipo_lab.models.chat import response_end_token
from aipo_lab.models.policy import Policy, load_policy
from generation.completion_server import MODEL, RETRY_AFTER_S, CompletionServer

PROMPTS = [[1, 4, *range(10, 10 + n), 5] for n in (3, 1, 7)]
SAMPLING = SamplingConfig(max_new_tokens=12)
QUICK = {"attempts": 3, "backoff_s": 0.01, "timeout_s": 5.0}
KEY = "sk-planted-secret-0123456789"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_variant(tmp_path_factory.mktemp("served") / "model", generation_config={"eos_token_id": 2})


@pytest.fixture(scope="module")
def policy(folder: Path) -> Policy:
    return load_policy(folder, "cpu", "float32")


@pytest.fixture(autouse=True)
def _own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIPO_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def open_on(server: CompletionServer, folder: Path, **values: Any) -> Engine:
    settings = OpenaiEngineSettings(**{"model": MODEL, "base_url": server.base_url, **QUICK, **values})
    return open_engine(settings, folder, "cpu")


def ask(engine: Engine, n: int = 2) -> list[list[Any]]:
    return engine.generate(PROMPTS, n, SAMPLING, seed=5)


@pytest.mark.parametrize("fault", ["rate_limited", "server_error", "junk", "cut_off", "no_choices"])
def test_what_passes_is_tried_again(policy: Policy, folder: Path, fault: str) -> None:
    with CompletionServer(policy, folder) as server:
        expected = ask(open_on(server, folder))
    with CompletionServer(policy, folder, fault=lambda body, n: fault if n < 2 else None) as server:
        assert ask(open_on(server, folder)) == expected
        assert len(server.bodies) == 3 * len(PROMPTS)


def test_a_server_that_says_when_to_come_back_is_left_alone_until_then(policy: Policy, folder: Path) -> None:
    with CompletionServer(policy, folder, fault=lambda body, n: None if n else "rate_limited_wait") as server:
        started_s = time.monotonic()
        ask(open_on(server, folder, attempts=2))
        assert time.monotonic() - started_s >= RETRY_AFTER_S
        assert len(server.bodies) == 2 * len(PROMPTS)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("rate_limited", r"status 429: Rate limit reached \(tried 3 times\)"),
        ("server_error", r"status 500: Internal error \(tried 3 times\)"),
        ("junk", r"the reply is not JSON: .* \(tried 3 times\)"),
        ("no_choices", r"the reply is not a completion: no choices \(tried 3 times\)"),
        ("hang", r"no answer within 1 s \(tried 3 times\)"),
    ],
)
def test_what_stays_fails_the_stage_and_says_how_much(policy: Policy, folder: Path, fault: str, reason: str) -> None:
    first = json.dumps(PROMPTS[1])
    values = {"timeout_s": 1.0} if fault == "hang" else {}
    with CompletionServer(
        policy, folder, fault=lambda body, n: fault if json.dumps(body["prompt"]) == first else None
    ) as server:
        engine = open_on(server, folder, **values)
        started_s = time.monotonic()
        told = rf"1 of 3 prompts got no completions .*{reason}.*the other replies are stored: run again"
        with pytest.raises(StageFailed, match=told) as caught:
            ask(engine)
        assert ("lower engine.concurrency" in str(caught.value)) == (fault == "rate_limited")
        assert time.monotonic() - started_s < 20


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("unauthorized", r"the engine's server refuses the call .*401.*check the key .* OPENAI_API_KEY"),
        ("not_found", r"404.*check the engine's model"),
        ("bad_request", r"unknown parameter top_k"),
    ],
)
def test_what_no_further_try_can_mend_ends_at_once(policy: Policy, folder: Path, fault: str, words: str) -> None:
    with CompletionServer(policy, folder, fault=lambda body, n: fault) as server:
        with pytest.raises(UserError, match=words) as caught:
            ask(open_on(server, folder, concurrency=1))
        assert len(server.bodies) == 1
        assert server.keys == [f"Bearer {KEY}"]
    assert KEY not in str(caught.value)


ODD: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "fewer": (lambda c: None if c["index"] else c, "holds 1 of 2 completions"),
    "filtered": (lambda c: c | {"finish_reason": "content_filter"}, "ended by 'content_filter'"),
    "unended": (lambda c: c | {"finish_reason": None}, "ended by None"),
    "empty": (lambda c: c | {"text": "", "token_ids": [], "finish_reason": "length"}, "is empty and was cut off"),
    "too long": (lambda c: c | {"token_ids": [10] * 13}, "has 13 tokens, and at most 12 were asked for"),
}


@pytest.mark.parametrize("odd", ODD)
def test_completions_of_no_use_are_counted_and_not_taken(policy: Policy, folder: Path, odd: str) -> None:
    change, reason = ODD[odd]
    with (
        CompletionServer(policy, folder, served=lambda choice, body: change(choice)) as server,
        pytest.raises(StageFailed, match=f"3 of 3 prompts got no completions .*{reason}") as caught,
    ):
        ask(open_on(server, folder))
    assert "are stored" not in str(caught.value)  # for none are


def test_an_immediate_end_is_a_completion_of_one_token(policy: Policy, folder: Path) -> None:
    at_once = {"text": "", "token_ids": [2], "finish_reason": "stop"}
    with CompletionServer(policy, folder, served=lambda choice, body: choice | at_once) as server:
        made = ask(open_on(server, folder))
    assert {(one.text, one.n_tokens, one.finish_reason) for row in made for one in row} == {("", 1, "stop")}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: {**c, "token_ids": None}, "returns no token ids .*engine.exchange=text"),
        (lambda c: {**c, "token_ids": [[1]]}, "returns no token ids"),
        (lambda c: {**c, "prompt_token_ids": [1, *c["prompt_token_ids"]]}, "completed 7 other tokens than the 6"),
        (lambda c: {**c, "text": "something else altogether"}, "has another tokenizer than the policy"),
        (lambda c: {**c, "token_ids": [99999]}, "has another tokenizer than the policy"),
        (lambda c: {**c, "token_ids": [], "text": "", "finish_reason": "stop"}, "leaves out the token that ended"),
    ],
)
def test_tokens_that_are_not_the_policys_are_refused(
    policy: Policy, folder: Path, change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    with CompletionServer(policy, folder, served=lambda choice, body: change(choice)) as server:
        engine = open_on(server, folder, concurrency=1)
        with pytest.raises(UserError, match=words):
            engine.generate(PROMPTS[:1], 1, SAMPLING, seed=5)


def test_tokens_written_as_text_are_read(policy: Policy, folder: Path) -> None:
    def as_marks(choice: dict[str, Any], body: Any) -> dict[str, Any]:
        ids = choice.pop("token_ids")
        return choice | {
            "logprobs": {"tokens": [f"token_id:{one}" for one in ids], "token_logprobs": [-1.0] * len(ids)}
        }

    with CompletionServer(policy, folder) as server:
        expected = ask(open_on(server, folder))
    with CompletionServer(policy, folder, served=as_marks) as server:
        assert ask(open_on(server, folder)) == expected


def test_text_is_tokenised_where_that_was_asked_for(policy: Policy, folder: Path) -> None:
    def text_alone(choice: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        assert isinstance(body["prompt"], str)
        assert not {"top_k", "return_token_ids", "stop_token_ids"} & body.keys()
        return {name: choice[name] for name in ("index", "text", "finish_reason")}

    with CompletionServer(policy, folder, served=text_alone) as server:
        made = ask(open_on(server, folder, exchange="text"))
        sent = [body["prompt"] for body in server.bodies]
    assert sorted(policy.tokenizer(text)["input_ids"] for text in sent) == sorted(PROMPTS)
    for one in (one for row in made for one in row):
        ended = one.finish_reason == "stop"
        assert (one.token_ids[-1] == policy.end_token_id) == ended or not one.token_ids
        words = one.token_ids[:-1] if ended else one.token_ids
        assert policy.tokenizer.decode(words, skip_special_tokens=True) == one.text
    assert response_end_token(policy.tokenizer) in policy.end_token_ids


def test_replies_are_kept_at_once_and_never_asked_for_twice(policy: Policy, folder: Path, tmp_path: Path) -> None:
    with CompletionServer(policy, folder) as server:
        expected = ask(open_on(server, folder))
    down = False
    with CompletionServer(policy, folder, fault=lambda body, n: "server_error" if down else None) as server:
        engine = open_on(server, folder)
        engine.keep_replies_in(tmp_path / "replies")
        engine.generate(PROMPTS[:2], 2, SAMPLING, seed=5)
        down = True
        with pytest.raises(StageFailed, match="1 of 3 prompts"):
            ask(engine)
        down = False
        later = open_on(server, folder)
        later.keep_replies_in(tmp_path / "replies")
        assert ask(later) == expected
        assert set(server.answered.values()) == {1}
    kept = list((tmp_path / "replies").glob("*/*.json"))
    assert len(kept) == 3
    assert not [path for path in kept if KEY in path.read_text()]


def test_a_cost_limit_needs_a_price_and_is_kept(policy: Policy, folder: Path) -> None:
    with CompletionServer(policy, folder) as server:
        with pytest.raises(UserError, match=r"needs the price of the engine 'served'.*engine.max_cost_usd"):
            open_on(server, folder, max_cost_usd=1.0)
        price = {MODEL: {"input": 0, "output": 1e6}}  # a dollar a token: a prompt may cost 2 x 12
        engine = open_on(server, folder, max_cost_usd=25.0, prices=price, concurrency=1)
        with pytest.raises(UserError, match=r"(?s)cost limit of \$25.00.*this generation.*engine.max_cost_usd"):
            ask(engine)
        spent = sum(json.loads(text)["max_tokens"] for text in server.answered)
        assert spent <= 25


def test_other_weights_than_the_policys_are_refused(policy: Policy, folder: Path, tmp_path: Path) -> None:
    other = make_variant(tmp_path / "other", generation_config={"eos_token_id": 2, "temperature": 0.5})
    with CompletionServer(policy, other) as server, pytest.raises(UserError, match="is not the policy in"):
        open_on(server, folder)
    with CompletionServer(policy, None) as server:
        with pytest.raises(UserError, match=r"does not say from which folder .*engine.serves=FOLDER"):
            open_on(server, folder)
        with pytest.raises(UserError, match="is not a folder here"):
            open_on(server, folder, serves=str(tmp_path / "nowhere"))
        with pytest.raises(UserError, match="is not the policy in"):
            open_on(server, folder, serves=str(other))
        assert ask(open_on(server, folder, serves=str(folder)))


@pytest.mark.parametrize(
    ("models", "error", "words"),
    [
        ({"data": [{"id": "a"}, {"id": "b"}]}, UserError, "has no model 'served'; set engine.model to one of: a, b"),
        ({"data": []}, UserError, "to one of: none"),
        ((401, {"error": {"message": "no"}}), UserError, "check the key in the environment variable OPENAI_API_KEY"),
        ((503, {"error": {"message": "starting"}}), StageFailed, "does not answer: status 503: starting"),
        ((200, b"<html>"), StageFailed, "something else than a list of models"),
        ((404, {}), UserError, "does not say from which folder"),
    ],
)
def test_what_the_list_of_models_says_is_told(
    policy: Policy, folder: Path, models: Any, error: type[Exception], words: str
) -> None:
    with CompletionServer(policy, None, models=models) as server, pytest.raises(error, match=words):
        open_on(server, folder)


def test_a_server_that_is_down_is_said_to_be(policy: Policy, folder: Path) -> None:
    with CompletionServer(policy, folder) as server:
        url = server.base_url
    settings = OpenaiEngineSettings(model=MODEL, base_url=url, **QUICK)
    with pytest.raises(StageFailed, match=rf"cannot be reached at {url}/models: connection failed"):
        open_engine(settings, folder, "cpu")
