"""Tiny models of random weights whose every word is a judgment, so that whatever they say can be read."""

from __future__ import annotations

from pathlib import Path

JUDGMENTS = [f"Score: {points}\n" for points in range(6)]


def write_scoring_model(folder: Path, seed: int = 0) -> Path:
    """Write a Llama whose vocabulary is scores (and what questions are made of is unknown to it); returns the folder.

    Questions are told apart by their length alone: letters are tokens, but all the same one.
    """
    import torch
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<pad>", "<s>", "</s>", "<unk>", *JUDGMENTS, *"abcdefghijklmnopqrstuvwxyz "]
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    backend.add_special_tokens([AddedToken("</s>", special=True)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )
    tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=3000,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        initializer_range=0.5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    with torch.no_grad():  # nothing but scores is ever the likeliest
        model.lm_head.weight[:4] = 0
        model.lm_head.weight[4 + len(JUDGMENTS) :] = 0
        model.lm_head.weight[2] = 0
    model.save_pretrained(folder)
    return folder
