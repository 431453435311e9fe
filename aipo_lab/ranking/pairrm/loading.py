"""Loading a checkpoint: its tokenizer, and the network with the checkpoint's weights, whatever its layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aipo_lab.core.errors import StageFailed
from aipo_lab.core.jsonl import read_json
from aipo_lab.ranking.pairrm.checkpoint import SAFETENSORS, Checkpoint

if TYPE_CHECKING:
    from torch import Tensor

BACKBONE, HEAD = "pretrained_model.", "head_layer."
V3_HEAD_SIZE = 64
"""Of every published DeBERTa-v3, which a checkpoint's weights do not tell."""


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """The checkpoint's tokenizer, as its files are read by transformers."""
    from transformers import AutoTokenizer, DebertaV2Config

    # the first layout's config.json is none of transformers': it must not be asked which tokenizer this is
    config = {} if checkpoint.is_hf else {"config": DebertaV2Config()}
    return AutoTokenizer.from_pretrained(str(checkpoint.backbone), **config)


def load_network(checkpoint: Checkpoint, device: str, dtype: str) -> tuple[Any, Any]:
    """The backbone (a `DebertaV2Model`) and the head, in evaluation mode; raises `StageFailed` for foreign weights."""
    import torch
    from torch import nn
    from transformers import DebertaV2Config, DebertaV2Model

    weights = _read_weights(checkpoint)
    backbone_weights = _below(weights, BACKBONE)
    backbone_weights.pop("embeddings.position_ids", None)  # a buffer that older versions of transformers saved
    config = DebertaV2Config(**_shape(checkpoint, backbone_weights))
    with torch.device("meta"):
        model = DebertaV2Model(config)
    model.embeddings.position_ids = torch.arange(config.max_position_embeddings).expand((1, -1))
    head_weights = _below(weights, HEAD)
    hidden, n_tasks = config.hidden_size, head_weights["4.weight"].shape[0]
    head = nn.Sequential(
        nn.Identity(), nn.Linear(2 * hidden, hidden), nn.Tanh(), nn.Identity(), nn.Linear(hidden, n_tasks)
    )
    try:
        model.load_state_dict(backbone_weights, strict=True, assign=True)
        head.load_state_dict(head_weights, strict=True)
    except RuntimeError as error:
        raise StageFailed(f"the weights in {checkpoint.weights} are not PairRM's: {error}") from None
    kind = getattr(torch, dtype)
    return model.to(device, kind).eval(), head.to(device, kind).eval()


def _read_weights(checkpoint: Checkpoint) -> Mapping[str, Tensor]:
    """All weights, from safetensors or, without running code of theirs, from PyTorch's own format."""
    if checkpoint.weights.name == SAFETENSORS:
        from safetensors.torch import load_file

        return dict(load_file(checkpoint.weights))
    import torch

    found: Mapping[str, Tensor] = torch.load(checkpoint.weights, map_location="cpu", weights_only=True)
    return found


def _below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    found = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    if not found:
        raise StageFailed(f"the PairRM checkpoint has no tensors {prefix}*; fetch it again")
    return found


def _shape(checkpoint: Checkpoint, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The settings of `DebertaV2Config`: what the folder says, else DeBERTa-v3's with the sizes of the weights.

    The number of embeddings is always that of the weights, which has the four prefixes.
    """
    vocabulary = {"vocab_size": weights["embeddings.word_embeddings.weight"].shape[0]}
    path = checkpoint.backbone / "config.json"
    config = read_json(path) if path.is_file() else {}
    if config.get("model_type") == "deberta-v2":
        return {**config, **vocabulary}
    hidden = weights["embeddings.word_embeddings.weight"].shape[1]
    if hidden % V3_HEAD_SIZE:
        raise StageFailed(
            f"{checkpoint.folder} does not tell how many attention heads of its {hidden} dimensions it has; put the "
            "folder of its backbone where model_name of its config.json says"
        )
    layers = {name.split(".")[2] for name in weights if name.startswith("encoder.layer.")}
    types = weights.get("embeddings.token_type_embeddings.weight")
    return {
        **vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": len(layers),
        "num_attention_heads": hidden // V3_HEAD_SIZE,
        "intermediate_size": weights["encoder.layer.0.intermediate.dense.weight"].shape[0],
        "type_vocab_size": 0 if types is None else types.shape[0],
        "relative_attention": True,
        "position_buckets": weights["encoder.rel_embeddings.weight"].shape[0] // 2,
        "norm_rel_ebd": "layer_norm" if "encoder.LayerNorm.weight" in weights else "none",
        "share_att_key": "encoder.layer.0.attention.self.pos_key_proj.weight" not in weights,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": "embeddings.position_embeddings.weight" in weights,
        "max_position_embeddings": 512,
        "layer_norm_eps": 1e-7,
        "pad_token_id": 0,
    }
