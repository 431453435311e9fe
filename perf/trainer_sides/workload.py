"""What both sides train: pairs of two kinds of lengths, and models small enough for the machine at hand.

`short` pairs are those of the measured baselines (prompts of 10-60 words, responses of 15-110) on SmolLM2-135M.
`realistic` ones have prompts to 512 tokens and responses to 2,048, short ones more often than long ones, on a random
Llama of SmolLM2's width with eight layers and a vocabulary of 8,192: the logits of a TRL micro-batch then fit 24 GiB.
"""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

WORDS = """
river stone morning garden music window winter letter market doctor silver forest bridge summer story yellow engine
travel dinner school paper simple answer number little people water mountain under always because between where green
small often never again country family light house night world place right great
""".split()  # noqa: SIM905
PROMPT_TOKENS = (32, 512)
RESPONSE_TOKENS = (64, 2048)
VOCABULARY = 8192
TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"  # noqa: E501
SHAPES = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "layers": 2, "heads": 2, "kv_heads": 1},
    "realistic": {"hidden_size": 576, "intermediate_size": 1536, "layers": 8, "heads": 9, "kv_heads": 3},
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "layers": 16, "heads": 32, "kv_heads": 8},
    "3b": {"hidden_size": 3072, "intermediate_size": 8192, "layers": 28, "heads": 24, "kv_heads": 8},
    "7b": {"hidden_size": 4096, "intermediate_size": 14336, "layers": 32, "heads": 32, "kv_heads": 8},
}
"""Random Llamas; the large ones are for GPUs, with a vocabulary of 32,768."""
GPU_VOCABULARY = 32_768


def short_pairs(n: int) -> list[dict[str, Any]]:
    """Pairs of the kind of the measured baselines."""
    draw = random.Random(0)
    return [
        _pair(number, _words(draw, draw.randint(10, 60)), *(_words(draw, draw.randint(15, 110)) for _ in range(2)))
        for number in range(n)
    ]


def realistic_pairs(n: int) -> list[dict[str, Any]]:
    """Pairs whose lengths in words, which are tokens of `write_model`'s tokenizer, are drawn evenly on a log scale.

    The first has the longest of everything, so that whatever the number, the whole range is there.
    """
    draw = random.Random(0)

    def length(low: int, high: int) -> int:
        return round(math.exp(draw.uniform(math.log(low), math.log(high))))

    lengths = [(PROMPT_TOKENS[1], RESPONSE_TOKENS[1], RESPONSE_TOKENS[1] // 2)]
    lengths += [(length(*PROMPT_TOKENS), length(*RESPONSE_TOKENS), length(*RESPONSE_TOKENS)) for _ in range(n - 1)]
    # the template's beginning and end token count too
    return [
        _pair(number, *(_words(draw, words - 1) for words in of_pair)) for number, of_pair in enumerate(lengths[:n])
    ]


def write_model(folder: Path, shape: str) -> Path:
    """A random Llama of one of `SHAPES`, with a tokenizer that makes a token of every word."""
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    LlamaForCausalLM(llama_config(shape)).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> Any:
    """A tokenizer of `WORDS` with a chat template, written into `folder`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = ["<pad>", "<s>", "</s>", "<unk>", *WORDS]
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(tokens)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return tokenizer


def llama_config(shape: str) -> Any:
    """The configuration of one of `SHAPES`."""
    from transformers import LlamaConfig

    sizes = SHAPES[shape]
    small = shape in ("tiny", "realistic")
    return LlamaConfig(
        hidden_size=sizes["hidden_size"],
        intermediate_size=sizes["intermediate_size"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        num_key_value_heads=sizes["kv_heads"],
        vocab_size=VOCABULARY if small else GPU_VOCABULARY,
        max_position_embeddings=4096,
        tie_word_embeddings=small,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )


def _pair(number: int, prompt: str, chosen: str, rejected: str) -> dict[str, Any]:
    return {
        "id": f"{number:04d}",
        "prompt": [{"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": " " + chosen}],
        "rejected": [{"role": "assistant", "content": " " + rejected}],
    }


def _words(draw: random.Random, n: int) -> str:
    return " ".join(draw.choices(WORDS, k=n))
