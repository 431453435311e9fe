"""The official MT-Bench files: questions and judge prompts of FastChat, reference answers of two judge models."""

from __future__ import annotations

from aipo_lab.assets.asset import Asset, PinnedFile
from aipo_lab.assets.download import fetching

_FASTCHAT = (
    "https://raw.githubusercontent.com/lm-sys/FastChat/587d5cfa1609a43d192cedb8441cac3c17db105d/fastchat/llm_judge/data"
)
_SIMPO = "https://raw.githubusercontent.com/princeton-nlp/SimPO/1b3e8f3528a23bce3da514a2dce8ea7490d4bc75/eval/mt-bench"
"""SimPO's references by gpt-4-1106-preview; the AIPO paper's code uses the same file."""

FILES = (
    PinnedFile(
        "question.jsonl",
        f"{_FASTCHAT}/mt_bench/question.jsonl",
        "119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7",
    ),
    PinnedFile(
        "judge_prompts.jsonl",
        f"{_FASTCHAT}/judge_prompts.jsonl",
        "fd283293406d024f44c174b094ef48031d0687a4682fd3a56b29b138f80281b6",
    ),
    PinnedFile(
        "reference_answer/gpt-4.jsonl",
        f"{_FASTCHAT}/mt_bench/reference_answer/gpt-4.jsonl",
        "f957a5bc977badb66885ec970e6cd08527845780313f0995764260e5777b9b3f",
    ),
    PinnedFile(
        "reference_answer/gpt-4-1106-preview.jsonl",
        f"{_SIMPO}/gpt-4-1106-preview.jsonl",
        "fe030678a33dbbd3d729e7569375150b8830a53f5b11f820a75b630db317f56f",
    ),
)


MT_BENCH = Asset(
    name="mt-bench",
    description="MT-Bench: questions, judge prompts, reference answers",
    licence="Apache-2.0 (FastChat), MIT (SimPO)",
    size_bytes=201_213,
    source="github.com/lm-sys/FastChat, github.com/princeton-nlp/SimPO",
    build=fetching(FILES),
    files=FILES,
)
