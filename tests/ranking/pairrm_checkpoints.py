"""Small random PairRM checkpoints in both published layouts, and prompts with candidates of mixed lengths for them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

PREFIXES = ["<|source|>", "<|candidate1|>", "<|candidate2|>", "<|candidate|>"]
WORDS = [
    "the",
    "a",
    "of",
    "is",
    "red",
    "blue",
    "fox",
    "sun",
    "sea",
    "moon",
    "runs",
    "sleeps",
    "old",
    "new",
    "and",
    "why",
]


def write_tokenizer(folder: Path, with_prefixes: bool = False) -> Any:
    """A unigram tokenizer of DeBERTa-v3's kind: some words, all printable ASCII characters, and a few others."""
    from transformers import DebertaV2Tokenizer

    pieces = ["▁", *(f"▁{word}" for word in WORDS), *map(chr, range(33, 127)), "é", "中"]
    vocabulary = [(token, 0.0) for token in ("[PAD]", "[CLS]", "[SEP]", "[UNK]")]
    vocabulary += [(piece, -float(len(WORDS)) / len(piece)) for piece in pieces] + [("[MASK]", 0.0)]
    tokenizer = DebertaV2Tokenizer(vocab=vocabulary, unk_id=3)
    if with_prefixes:
        tokenizer.add_tokens(PREFIXES)
    tokenizer.save_pretrained(folder)
    return tokenizer


def small_config(vocab_size: int, **changes: Any) -> Any:
    """DeBERTa-v3's settings, small."""
    from transformers import DebertaV2Config

    settings = {
        "vocab_size": vocab_size,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 128,
        "type_vocab_size": 0,
        "relative_attention": True,
        "position_buckets": 32,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "max_position_embeddings": 512,
        "layer_norm_eps": 1e-7,
        "pad_token_id": 0,
        "initializer_range": 0.15,
    }
    return DebertaV2Config(**settings | changes)


def make_weights(config: Any, seed: int = 0) -> dict[str, Any]:
    """Random weights under the published names, from numpy, whose numbers no version changes."""
    import numpy
    import torch
    from transformers import DebertaV2Model

    draw = numpy.random.RandomState(seed)
    shapes = {
        f"pretrained_model.{name}": tensor.shape for name, tensor in sorted(DebertaV2Model(config).state_dict().items())
    }
    hidden = config.hidden_size
    shapes |= {"head_layer.1.weight": (hidden, 2 * hidden), "head_layer.1.bias": (hidden,)}
    shapes |= {"head_layer.4.weight": (1, hidden), "head_layer.4.bias": (1,)}
    weights = {name: torch.from_numpy(draw.normal(0, 0.15, tuple(shape))).float() for name, shape in shapes.items()}
    for name in weights:
        if name.endswith("LayerNorm.weight"):
            weights[name] += 1
    return weights


def write_original(folder: Path, limits: tuple[int, int] = (1224, 412), seed: int = 0, **changes: Any) -> Path:
    """The layout of llm-blender/PairRM; its backbone, with weights of no use, lies beside it. Returns the folder."""
    from safetensors.torch import save_file
    from transformers import DebertaV2Model

    checkpoint, backbone = folder / "PairRM", folder / "backbone"
    tokenizer = write_tokenizer(backbone)
    config = small_config(len(tokenizer), **changes)
    DebertaV2Model(config).save_pretrained(backbone)
    checkpoint.mkdir()
    config.vocab_size = len(tokenizer) + len(PREFIXES)
    save_file(make_weights(config, seed), checkpoint / "model.safetensors")
    settings = {
        "ranker_type": "pairranker",
        "model_type": "deberta",
        "model_name": str(backbone),
        "source_maxlength": limits[0],
        "candidate_maxlength": limits[1],
        "n_tasks": 1,
        "drop_out": 0.05,
        "fp16": True,
        "loss_type": "instructgpt",
        "inference_mode": "bubble",
    }
    (checkpoint / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    return checkpoint


def write_hf(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """The layout of llm-blender/PairRM-hf. Returns the folder."""
    from safetensors.torch import save_file

    checkpoint = folder / "PairRM-hf"
    tokenizer = write_tokenizer(checkpoint, with_prefixes=True)
    config = small_config(len(tokenizer), **changes)
    save_file(make_weights(config, seed), checkpoint / "model.safetensors")
    ids = dict(
        zip(
            ("source_prefix_id", "cand1_prefix_id", "cand2_prefix_id", "cand_prefix_id"),
            tokenizer.convert_tokens_to_ids(PREFIXES),
            strict=True,
        )
    )
    more = {"architectures": ["DebertaV2PairRM"], "n_tasks": 1, "drop_out": 0.05, "sep_token_id": 2, **ids}
    (checkpoint / "config.json").write_text(json.dumps(config.to_dict() | more), encoding="utf-8")
    return checkpoint


def words(draw: random.Random, n: int) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(n))


def make_rows(n: int, longest: int = 40, n_candidates: int = 5, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of `responses.jsonl` with prompts and candidates of mixed lengths."""
    draw = random.Random(seed)

    def length() -> int:
        return max(1, round(longest ** draw.random()))

    return [
        {
            "id": f"{number:06d}",
            "prompt": words(draw, length()),
            "responses": [{"text": words(draw, length()), "tokens": 5} for _ in range(n_candidates)],
        }
        for number in range(n)
    ]
