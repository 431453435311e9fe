from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from aipo_lab.core.errors import UserError
from aipo_lab.generation.engine import SamplingConfig
from aipo_lab.generation.transformers_engine import TransformersEngine
from aipo_lab.judging.calls import Judge, JudgeReply, JudgeRequest, Message, Unanswered
from aipo_lab.judging.opening import open_judge
from aipo_lab.judging.settings import JudgeSettings
from aipo_lab.models.chat import encode_prompt
from aipo_lab.models.policy import Policy

from .conftest import request, silent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, policy: Policy) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny-judge"
    policy.model.save_pretrained(path)
    policy.tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def local_judge(folder: Path, tmp_path: Path) -> Callable[..., Judge]:
    def judge(store: str = "calls", **settings: Any) -> Judge:
        return open_judge(JudgeSettings(engine="local", model=str(folder), **settings), tmp_path / store)

    return judge


QUESTIONS = ["How many legs has a cat?", "Name a color.", "Which is bigger, a mouse or a horse, and why is that so?"]


def replies(outcomes: list[Any]) -> list[JudgeReply]:
    assert all(isinstance(outcome, JudgeReply) for outcome in outcomes), outcomes
    return outcomes


def test_greedy_replies_are_those_of_the_engine(local_judge: Callable[..., Judge], policy: Policy) -> None:
    judge = local_judge(concurrency=2)
    assert judge.name == "tiny-judge"
    got = replies(judge.ask([request(text, max_tokens=20) for text in QUESTIONS], silent))
    prompts = [encode_prompt(policy.tokenizer, [{"role": "user", "content": text}]) for text in QUESTIONS]
    expected = TransformersEngine(policy, 1).generate(prompts, 1, SamplingConfig(temperature=0, max_new_tokens=20), 0)
    for reply, prompt, (completion,) in zip(got, prompts, expected, strict=True):
        assert (reply.text, reply.finish_reason, reply.completion_tokens, reply.prompt_tokens) == (
            completion.text,
            completion.finish_reason,
            completion.n_tokens,
            len(prompt),
        )


def test_first_token_logprobs_are_those_of_a_forward_pass(local_judge: Callable[..., Judge], policy: Policy) -> None:
    asked = [
        request(text, max_tokens=1, temperature=temperature, top_logprobs=4)
        for text in QUESTIONS
        for temperature in (0.0, 1.0)
    ]
    got = replies(local_judge().ask(asked, silent))
    for one, reply in zip(asked, got, strict=True):
        ids = encode_prompt(policy.tokenizer, [{"role": "user", "content": one.messages[0].content}])
        with torch.inference_mode():
            logprobs = policy.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        top = logprobs.topk(4)
        assert [token for token, _ in reply.first_token_logprobs] == [
            policy.tokenizer.decode([token]) for token in top.indices.tolist()
        ]
        assert [value for _, value in reply.first_token_logprobs] == pytest.approx(top.values.tolist(), abs=1e-4)
    assert replies(local_judge().ask([request("plain")], silent))[0].first_token_logprobs == ()


def test_a_sampled_reply_depends_on_its_request_alone(local_judge: Callable[..., Judge]) -> None:
    asked = [request(text, max_tokens=12, temperature=1.0) for text in QUESTIONS]
    together = replies(local_judge("one").ask(asked, silent))
    alone = [replies(local_judge("two", concurrency=1).ask([one], silent))[0] for one in reversed(asked)]
    assert together == alone[::-1]
    greedy = replies(local_judge("one").ask([request(text, max_tokens=12) for text in QUESTIONS], silent))
    assert [reply.text for reply in together] != [reply.text for reply in greedy]


def test_a_discarded_sample_is_drawn_anew(local_judge: Callable[..., Judge]) -> None:
    one = request(QUESTIONS[0], max_tokens=12, temperature=1.0)
    judge = local_judge()
    first = judge.ask([one], silent)
    judge.discard(one, "junk")
    assert judge.ask([one], silent) == first
    second = local_judge().ask([one], silent)
    assert second != first
    assert local_judge().ask([one], silent) == second


def test_samples_follow_the_softmax(local_judge: Callable[..., Judge]) -> None:
    """The same prompt under 400 hashes (max_tokens differs, the first token does not)."""
    asked = [JudgeRequest((Message("user", QUESTIONS[1]),), 1, 0.5 + n * 1e-9, 5) for n in range(400)]
    got = replies(local_judge(concurrency=200).ask(asked, silent))
    logprobs = dict(got[0].first_token_logprobs)
    weights = {token: value / 0.5 for token, value in logprobs.items()}
    likeliest, second = sorted(weights, key=lambda token: -weights[token])[:2]
    counts = [sum(reply.text == token for reply in got) for token in (likeliest, second)]
    share = torch.tensor([weights[likeliest], weights[second]]).softmax(0)[0].item()
    n = sum(counts)
    assert n > 50
    assert abs(counts[0] - share * n) < 4 * (n * share * (1 - share)) ** 0.5


def test_replies_are_stored_under_the_models_content(
    local_judge: Callable[..., Judge], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local_judge().ask([request("a")], silent)
    monkeypatch.setattr("aipo_lab.judging.local.POLICIES.get", lambda *_: pytest.fail("the model is needed again"))
    moved = tmp_path / "elsewhere"
    moved.symlink_to(folder)
    judge = open_judge(JudgeSettings(engine="local", model=str(moved)), tmp_path / "calls")
    assert len(replies(judge.ask([request("a")], silent))) == 1


def test_a_prompt_that_does_not_fit_is_unanswered(local_judge: Callable[..., Judge]) -> None:
    long, short = local_judge().ask([request("word " * 600), request("word", max_tokens=10_000)], silent)
    assert isinstance(long, Unanswered)
    assert "512 positions" in long.reason
    assert isinstance(short, JudgeReply)
    assert short.prompt_tokens + short.completion_tokens <= 512


def test_system_messages_are_not_lost(
    local_judge: Callable[..., Judge], folder: Path, tmp_path: Path, policy: Policy
) -> None:
    import json
    import shutil

    rubric = JudgeRequest((Message("system", "Count well."), Message("user", "How many?")), 4, 0.0)
    refusing = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}"
        "{{ m.content }}{% endfor %}"
    )
    for name, template in (("plain", None), ("refusing", refusing)):
        copy = shutil.copytree(folder, tmp_path / name)
        (copy / "chat_template.jinja").unlink(missing_ok=True)
        config = json.loads((copy / "tokenizer_config.json").read_text())
        config.pop("chat_template", None)
        (copy / "tokenizer_config.json").write_text(
            json.dumps(config | ({"chat_template": template} if template else {}))
        )
        settings = JudgeSettings(engine="local", model=str(copy), chat_template=None if template else "plain")
        (reply,) = replies(open_judge(settings, tmp_path / "calls").ask([rubric], silent))
        text = "Count well.\n\nHow many?" if template else "System: Count well.\n\nUser: How many?\n\nAssistant:"
        assert reply.prompt_tokens == len(policy.tokenizer(text)["input_ids"])  # with a begin token
    with pytest.raises(UserError, match=r"no chat template.*set benchmarks.judge.chat_template"):
        open_judge(JudgeSettings(engine="local", model=str(tmp_path / "plain")), tmp_path / "calls")


def test_a_model_that_overflows_is_unanswered(folder: Path, tmp_path: Path, policy: Policy) -> None:
    import copy

    broken = copy.deepcopy(policy.model)
    with torch.no_grad():
        broken.lm_head.weight.fill_(float("nan"))
    broken.save_pretrained(tmp_path / "broken")
    policy.tokenizer.save_pretrained(tmp_path / "broken")
    judge = open_judge(JudgeSettings(engine="local", model=str(tmp_path / "broken")), tmp_path / "calls")
    (outcome,) = judge.ask([request("a")], silent)
    assert isinstance(outcome, Unanswered)
    assert "NaN in float32" in outcome.reason
