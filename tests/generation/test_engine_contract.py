"""What every engine promises (`Engine.generate`), on each of them.

`transformers` and `openai` (a server on this machine) run on a tiny random model. `vllm`, and vLLM's own server behind
`openai`, run on SmolLM2 where `make test-vllm` says what they need: AIPO_LAB_TEST_VLLM, a Python that has vLLM, and
AIPO_LAB_TEST_MODEL, the model's folder. AIPO_LAB_TEST_DEVICE is the engines' device (`make gpu-check`). A further
engine is one more entry of `SUBJECTS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from model_variants import make_variant

from aipo_lab.generation.engine import ENGINES, Completion, Engine, SamplingConfig, open_engine
from aipo_lab.generation.live import stop_live_engines
from aipo_lab.models.chat import encode_prompt, user_message
from aipo_lab.models.policy import Policy, load_policy
from generation.completion_server import MODEL, CompletionServer, logprobs_by_hand
from generation.vllm_server import vllm_server

DEVICE = os.environ.get("AIPO_LAB_TEST_DEVICE", "cpu")
CAP = 32
GREEDY = SamplingConfig(temperature=0, max_new_tokens=CAP)
QUESTIONS = [
    "Name a colour.", "Say hello to Ann.", "What is two plus three?", "Write one short sentence about the ocean.",
    "List three fruits.", "Who wrote Hamlet?", "Explain rain to a child in two sentences.", "Give a word for cold.",
]  # fmt: skip


@dataclass
class Subject:
    """An engine, the policy it samples from with weights here, and prompts for it."""

    engine: Engine
    policy: Policy
    prompts: list[list[int]]
    tiny: bool

    def text(self, tokens: list[int]) -> str:
        return str(self.policy.tokenizer.decode(tokens, skip_special_tokens=True))


def settings_of(name: str, **values: Any) -> Any:
    return ENGINES.get(name).settings(name=name, **values)


@contextmanager
def tiny(name: str, folder: Path, **more: Any) -> Iterator[Subject]:
    # `writes` makes its ends about one token in ten, so that some completions end and some are cut off
    make_variant(folder, generation_config={"eos_token_id": 2})
    policy = load_policy(folder, "cpu", "float32")
    prompts = [[1, 4, *range(10, 10 + n), 5] for n in (3, 1, 30, 7, 12, 2)]
    with CompletionServer(policy, folder) as server:
        values = {"model": MODEL, "base_url": server.base_url} if name == "openai" else more
        try:
            yield Subject(open_engine(settings_of(name, **values), folder, DEVICE), policy, prompts, tiny=True)
        finally:
            stop_live_engines()


@contextmanager
def smollm2(name: str, folder: Path) -> Iterator[Subject]:
    python, model = os.environ.get("AIPO_LAB_TEST_VLLM"), os.environ.get("AIPO_LAB_TEST_MODEL")
    if not python or not model:
        pytest.skip("run by `make test-vllm`")
    policy = load_policy(Path(model), "cpu", "float32")
    prompts = [encode_prompt(policy.tokenizer, user_message(question)) for question in QUESTIONS]
    if name == "vllm":
        settings = settings_of("vllm", python=python, cpu_cache_gib=1)
        try:
            yield Subject(open_engine(settings, Path(model), DEVICE), policy, prompts, tiny=False)
        finally:
            stop_live_engines()
        return
    with vllm_server(python, Path(model), MODEL, folder) as url:
        settings = settings_of("openai", model=MODEL, base_url=url)
        yield Subject(open_engine(settings, Path(model), "cpu"), policy, prompts, tiny=False)


SUBJECTS: dict[str, Callable[[Path], Any]] = {
    "transformers": partial(tiny, "transformers"),
    "transformers, two processes": partial(tiny, "transformers", data_parallel=2),
    "openai": partial(tiny, "openai"),
    "vllm": partial(smollm2, "vllm"),
    "openai on vllm": partial(smollm2, "openai"),
}


@pytest.fixture(scope="module", params=SUBJECTS)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    with SUBJECTS[request.param](tmp_path_factory.mktemp("subject") / "model") as opened:
        yield opened


@pytest.fixture(scope="module")
def by_hand(subject: Subject) -> list[list[int]]:
    return [greedy_by_hand(subject.policy, prompt) for prompt in subject.prompts]


def greedy_by_hand(policy: Policy, prompt: list[int], penalty: float = 1.0) -> list[int]:
    """Take the likeliest token again and again, up to an end token (included) or the cap."""
    ids, new, cache = list(prompt), list(prompt), None
    while len(ids) - len(prompt) < CAP:
        with torch.no_grad():
            output = policy.model(input_ids=torch.tensor([new]), past_key_values=cache, use_cache=True)
        logits, cache = output.logits[0, -1], output.past_key_values
        seen = torch.tensor(sorted(set(ids)))
        logits[seen] = torch.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)
        new = [int(logits.argmax())]
        ids += new
        if ids[-1] in policy.end_token_ids:
            break
    return ids[len(prompt) :]


def generate(subject: Subject, n: int, sampling: SamplingConfig, **more: Any) -> list[list[Completion]]:
    return subject.engine.generate(subject.prompts, n, sampling, **{"seed": 3, **more})


def tokens_of(made: list[list[Completion]]) -> list[list[int]]:
    return [one.token_ids for row in made for one in row]


def test_greedy_is_greedy_by_hand_in_the_order_of_the_prompts(subject: Subject, by_hand: list[list[int]]) -> None:
    assert tokens_of(generate(subject, 1, GREEDY)) == by_hand


def test_every_prompt_has_its_candidates_and_each_says_what_its_tokens_say(subject: Subject) -> None:
    made = generate(subject, 3, SamplingConfig(max_new_tokens=CAP))
    assert [len(row) for row in made] == [3] * len(subject.prompts)
    ends = subject.policy.end_token_ids
    for one in (one for row in made for one in row):
        assert one.n_tokens == len(one.token_ids) > 0
        assert one.text == subject.text(one.token_ids)
        assert not ends & set(one.token_ids[:-1])
        assert one.finish_reason == ("stop" if one.token_ids[-1] in ends else "length")
        assert one.finish_reason == "stop" or one.n_tokens == CAP
        assert one.logprobs is None
    assert len({tuple(tokens) for tokens in tokens_of(made)}) > len(made)  # candidates are drawn separately


def test_both_ends_occur(subject: Subject) -> None:
    made = generate(subject, 3, SamplingConfig(max_new_tokens=CAP))
    assert {one.finish_reason for row in made for one in row} == {"stop", "length"}


def test_the_same_arguments_give_the_same_and_another_seed_another_text(subject: Subject) -> None:
    sampling = SamplingConfig(max_new_tokens=12)
    first = tokens_of(generate(subject, 2, sampling))
    assert tokens_of(generate(subject, 2, sampling)) == first
    assert tokens_of(generate(subject, 2, sampling, seed=4)) != first


@pytest.mark.parametrize("cap", [1, 5])
def test_the_cap_is_the_cap_end_token_included(subject: Subject, by_hand: list[list[int]], cap: int) -> None:
    made = generate(subject, 1, GREEDY.model_copy(update={"max_new_tokens": cap}))
    assert tokens_of(made) == [tokens[:cap] for tokens in by_hand]


@pytest.mark.parametrize("place", ["argument", "setting"])
def test_a_completion_ends_before_the_first_stop_string(subject: Subject, by_hand: list[list[int]], place: str) -> None:
    text = max((subject.text(tokens) for tokens in by_hand), key=len)
    strings = [text[len(text) // 2 :][:4], text[len(text) // 3 :][:4]]
    given = {"stop": strings} if place == "argument" else {}
    sampling = GREEDY if given else GREEDY.model_copy(update={"stop": strings})
    made = [row[0] for row in generate(subject, 1, sampling, **given)]
    for one, tokens in zip(made, by_hand, strict=True):
        whole = subject.text(tokens)
        cuts = [whole.index(string) for string in strings if string in whole]
        assert one.text == (whole[: min(cuts)] if cuts else whole)
        assert one.token_ids == tokens[: one.n_tokens]
        if cuts:
            assert one.finish_reason == "stop"
            assert subject.text(one.token_ids).startswith(one.text)
            assert not one.token_ids or not subject.text(one.token_ids[:-1]).startswith(one.text)
    assert [one for one in made if one.n_tokens and one.finish_reason == "stop"]


def test_other_end_tokens_end_a_completion_too(subject: Subject, by_hand: list[list[int]]) -> None:
    end = by_hand[0][3]
    made = tokens_of(generate(subject, 1, GREEDY, also_ends=(end,)))
    assert made == [tokens[: tokens.index(end) + 1] if end in tokens else tokens for tokens in by_hand]


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}], ids=str)
def test_what_leaves_one_token_to_sample_from_is_greedy(
    subject: Subject, by_hand: list[list[int]], narrow: dict[str, Any]
) -> None:
    sampling = SamplingConfig(temperature=1.0, max_new_tokens=CAP, **narrow)
    assert tokens_of(generate(subject, 1, sampling)) == by_hand


def test_a_repetition_penalty_counts_prompt_and_completion(subject: Subject) -> None:
    sampling = GREEDY.model_copy(update={"repetition_penalty": 1.3})
    expected = [greedy_by_hand(subject.policy, prompt, 1.3) for prompt in subject.prompts]
    assert tokens_of(generate(subject, 1, sampling)) == expected


def test_log_probabilities_are_the_models_own(subject: Subject) -> None:
    sampling = SamplingConfig(temperature=0.7, top_p=0.9, max_new_tokens=CAP)
    for prompt, row in zip(subject.prompts, generate(subject, 2, sampling, logprobs=True), strict=True):
        for one in row:
            assert one.logprobs == pytest.approx(logprobs_by_hand(subject.policy, prompt, one.token_ids), abs=1e-2)


def test_a_prompt_that_fills_the_positions_gets_nothing_and_counts_as_cut_off(subject: Subject) -> None:
    full = [10] * subject.policy.n_positions
    made = subject.engine.generate([full, subject.prompts[0], [*full, 10]], 2, GREEDY, seed=0)
    assert [[one.n_tokens for one in row] for row in made][::2] == [[0, 0], [0, 0]]
    assert {one.finish_reason for row in made[::2] for one in row} == {"length"}
    assert made[1][0].n_tokens > 0


def test_greedy_samples_of_a_prompt_are_all_the_same(subject: Subject, by_hand: list[list[int]]) -> None:
    assert tokens_of(generate(subject, 2, GREEDY)) == [tokens for tokens in by_hand for _ in range(2)]


def test_more_prompts_than_are_computed_at_once_are_sampled_from(subject: Subject) -> None:
    many = subject.prompts * (4 if subject.tiny else 20)  # of 4,096 tokens of prompts a step, where vLLM chooses
    made = subject.engine.generate(many, 1, SamplingConfig(max_new_tokens=2), seed=3)
    assert [len(row) for row in made] == [1] * len(many)
    assert all(one.n_tokens for row in made for one in row)


def test_no_prompts_are_no_work(subject: Subject) -> None:
    assert subject.engine.generate([], 3, GREEDY, seed=0) == []
