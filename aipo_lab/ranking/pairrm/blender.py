"""The package llm-blender as the backend of `pairrm`: one prompt at a time, as its own rules are exact only then."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aipo_lab.core.errors import UserError
from aipo_lab.core.progress import Progress
from aipo_lab.ranking.pairrm.checkpoint import Checkpoint

INSTALL = "pip install 'aipo-lab[llm-blender]'"


def check_usable(checkpoint: Checkpoint) -> None:
    """Raise `UserError` if the package is not here or cannot read the checkpoint's layout."""
    problems = []
    if importlib.util.find_spec("llm_blender") is None:
        problems.append(f"the package llm-blender is not installed; install it with: {INSTALL}")
    if checkpoint.is_hf:
        problems.append("llm-blender reads the layout of llm-blender/PairRM only, not that of PairRM-hf; use the other")
    if problems:
        raise UserError.from_problems("rank.backend llm_blender cannot be used:", problems)


def load_blender(folder: str, device: str) -> Any:
    """A `llm_blender.Blender` with the checkpoint of a folder, made to work with transformers 5."""
    import transformers.utils.hub
    from transformers import PreTrainedTokenizerBase

    if not hasattr(transformers.utils.hub, "TRANSFORMERS_CACHE"):
        from huggingface_hub.constants import HF_HUB_CACHE

        transformers.utils.hub.TRANSFORMERS_CACHE = HF_HUB_CACHE
    if not hasattr(PreTrainedTokenizerBase, "batch_encode_plus"):
        PreTrainedTokenizerBase.batch_encode_plus = PreTrainedTokenizerBase.__call__
    import llm_blender
    import safetensors.torch  # noqa: F401 - llm-blender uses it without importing it

    blender = llm_blender.Blender()
    blender.blender_config.use_tqdm = False
    blender.loadranker(folder, device=device)
    return blender


class BlenderRanker:
    """Scores as llm-blender gives them at batch size 1."""

    def __init__(self, checkpoint: Checkpoint, device: str) -> None:
        self._blender = load_blender(str(checkpoint.folder), device)

    def scores(self, rows: Sequence[Mapping[str, Any]], progress: Progress) -> Iterator[list[float]]:
        """See `Ranker.scores`."""
        for done, row in enumerate(rows, start=1):
            texts = [response["text"] for response in row["responses"]]
            made = self._blender.rank([row["prompt"]], [texts], return_scores=True, batch_size=1, disable_tqdm=True)
            yield [float(score) for score in made[0]]
            progress(done, len(rows), "prompts")
