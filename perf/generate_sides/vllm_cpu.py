"""vLLM in this very process, run by a Python that has it and nothing of ours: all prompts in one call."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # vLLM prints
    import vllm

    job = json.loads(Path(sys.argv[1]).read_text())
    llm = vllm.LLM(model=job["model"], dtype="float32", enforce_eager=True, disable_log_stats=True, seed=0)
    generate(llm, job | {"max_new_tokens": 4}, job["prompts"][:2])
    answers.write(json.dumps({"ready": True}) + "\n")
    answers.flush()
    made = generate(llm, job, job["prompts"])
    assert len(made) == job["n"] * len(job["prompts"])
    answers.write(json.dumps({"completions": len(made), "tokens": sum(map(len, made))}) + "\n")
    answers.flush()


def generate(llm: Any, job: dict[str, Any], prompts: list[list[int]]) -> list[list[int]]:
    from vllm import SamplingParams, TokensPrompt

    sampling = SamplingParams(
        n=job["n"],
        temperature=job["temperature"],
        max_tokens=job["max_new_tokens"],
        stop_token_ids=job["ends"],
        ignore_eos=True,
        detokenize=False,
    )
    made = llm.generate([TokensPrompt(prompt_token_ids=one) for one in prompts], sampling, use_tqdm=False)
    return [list(one.token_ids) for request in made for one in request.outputs]


if __name__ == "__main__":
    main()
