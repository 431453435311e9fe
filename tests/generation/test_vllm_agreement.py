"""vLLM samples from the policy that is trained: greedy tokens and log-probabilities are those of transformers (fp32).

Run by `make test-vllm`; prints what was compared.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch

from aipo_lab.generation.engine import SamplingConfig, open_engine
from aipo_lab.generation.live import stop_live_engines
from aipo_lab.generation.vllm_engine import VllmEngine, VllmEngineSettings
from aipo_lab.models.chat import encode_prompt, user_message
from aipo_lab.models.policy import load_policy
from aipo_lab.worlds.world import get_world
from generation.completion_server import logprobs_by_hand

PYTHON, MODEL = os.environ.get("AIPO_LAB_TEST_VLLM"), os.environ.get("AIPO_LAB_TEST_MODEL")
pytestmark = pytest.mark.skipif(not PYTHON or not MODEL, reason="run by `make test-vllm`")
N_PROMPTS, N_TOKENS, TOLERANCE = 20, 32, 1e-2


def memory_gib(pid: int) -> float:
    """Resident memory of a process; 0 once it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except FileNotFoundError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**30


def test_greedy_tokens_and_log_probabilities_agree_and_the_memory_comes_back() -> None:
    assert PYTHON is not None and MODEL is not None
    folder = Path(MODEL)
    policy = load_policy(folder, "cpu", "float32")
    questions = get_world("constraints", 0).benchmark_prompts(N_PROMPTS)
    prompts = [encode_prompt(policy.tokenizer, user_message(question)) for question in questions]
    settings = VllmEngineSettings(python=PYTHON, cpu_cache_gib=1)
    engine = open_engine(settings, folder, "cpu")
    assert isinstance(engine, VllmEngine)
    assert open_engine(settings, folder, "cpu") is engine  # one process for all stages of these weights
    (process,) = engine.processes
    made = [
        row[0]
        for row in engine.generate(prompts, 1, SamplingConfig(temperature=0, max_new_tokens=N_TOKENS), 0, logprobs=True)
    ]
    held_gib, started_s = memory_gib(process.pid), time.monotonic()
    stop_live_engines()
    stopped_s = time.monotonic() - started_s
    assert (memory_gib(process.pid), engine.is_alive) == (0.0, False)
    same, gaps = 0, []
    for prompt, one in zip(prompts, made, strict=True):
        likeliest = greedy_along(policy, prompt, one.token_ids)
        same += likeliest == one.token_ids
        by_hand = logprobs_by_hand(policy, prompt, one.token_ids)
        assert one.logprobs is not None
        gaps += [abs(a - b) for a, b in zip(one.logprobs, by_hand, strict=True)]
    print(
        f"\ngreedy completions equal: {same} of {len(prompts)}; largest difference of {len(gaps)} log-probabilities: "
        f"{max(gaps):.2e}; {held_gib:.2f} GiB back {stopped_s:.2f} s after the stop"
    )
    assert same == len(prompts)
    assert max(gaps) < TOLERANCE


def greedy_along(policy: object, prompt: list[int], tokens: list[int]) -> list[int]:
    """What transformers would have taken at each place of a completion: equal to it where greedy completions are."""
    with torch.no_grad():
        logits = policy.model(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1]  # type: ignore[attr-defined]
    return [int(token) for token in logits.argmax(-1)]
