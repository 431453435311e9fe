"""How large a model is: from its folder, or from a table of known ones when it is not on this machine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import Field

from aipo_lab.core.config import StrictModel, read_yaml, validate
from aipo_lab.models.model_folder.files import read_object
from aipo_lab.models.model_folder.weights import read_weights

KNOWN_FILE = Path(__file__).with_name("known_models.yaml")


@dataclass(frozen=True)
class ModelSize:
    """Parameters of a model, and the bytes its weights take on disk."""

    parameters: int
    weight_bytes: int


class ModelShape(StrictModel):
    """A decoder with gated MLPs, as its config.json describes it."""

    layers: int = Field(ge=1, description="decoder layers")
    hidden: int = Field(ge=1, description="width of the residual stream")
    heads: int = Field(ge=1, description="attention heads of a layer")
    kv_heads: int = Field(ge=1, description="heads of keys and values")
    head_dim: int = Field(ge=1, description="width of a head")
    mlp: int = Field(ge=1, description="width inside the MLP")
    vocabulary: int = Field(ge=1, description="rows of the embedding")
    positions: int = Field(ge=1, description="longest sequence in tokens")
    norms: int = Field(2, ge=1, description="norm weights of a layer")
    tied: bool = Field(False, description="whether the head is the embedding")

    def parameters(self) -> int:
        """All weights, embedding and head included."""
        attention = self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)
        layer = attention + 3 * self.hidden * self.mlp + self.norms * self.hidden
        return self.vocabulary * self.hidden * (1 if self.tied else 2) + self.layers * layer + self.hidden


class KnownModels(StrictModel):
    """The file `known_models.yaml`."""

    models: dict[str, ModelShape] = Field(description="shape by hub id or asset name")


@cache
def known_models() -> dict[str, ModelShape]:
    """The shapes that come with aipo-lab, by hub id or asset name."""
    return validate(KnownModels, read_yaml(KNOWN_FILE, "model table"), str(KNOWN_FILE)).models


def model_size(source: str, folder: Path | None) -> ModelSize | None:
    """The size of the model in `folder`, else of the known one called `source`; None where neither tells."""
    if folder is not None:
        return _folder_size(folder)
    shape = known_models().get(source)
    return None if shape is None else ModelSize(shape.parameters(), 2 * shape.parameters())


def model_shape(source: str, folder: Path | None) -> ModelShape | None:
    """The shape of the model in `folder` by its config.json, else of the known one called `source`.

    None where neither tells, as with architectures whose configuration uses other words.
    """
    if folder is None:
        return known_models().get(source)
    config, _ = read_object(folder / "config.json")
    text = (config or {}).get("text_config", config)
    if not isinstance(text, dict):
        return None
    values = {name: text.get(key) for name, key in _CONFIG_KEYS.items()}
    heads = values["heads"]
    if isinstance(heads, int) and isinstance(values["hidden"], int):
        values["head_dim"] = values["head_dim"] or values["hidden"] // max(heads, 1)
        values["kv_heads"] = values["kv_heads"] or heads
    if any(not isinstance(value, int) or value < 1 for value in values.values()):
        return None
    tied = bool(text.get("tie_word_embeddings")) or "lm_head.weight" not in read_weights(folder).shapes
    return ModelShape.model_validate(values | {"tied": tied})


_CONFIG_KEYS = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "mlp": "intermediate_size",
    "vocabulary": "vocab_size",
    "positions": "max_position_embeddings",
}


def _folder_size(folder: Path) -> ModelSize | None:
    """From the headers of the weight files, so that no weight is read."""
    parameters = sum(math.prod(shape) for shape in read_weights(folder).shapes.values())
    n_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors") if path.exists())
    return ModelSize(parameters, n_bytes) if parameters else None
