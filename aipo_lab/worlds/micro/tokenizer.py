"""The tokenizer of the micro world: one entry per word, saved as an ordinary Hugging Face fast tokenizer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from aipo_lab.generation.self_instruct import HEADER
from aipo_lab.worlds.micro.instructions import TEMPLATES
from aipo_lab.worlds.micro.knowledge import ATTRIBUTES, ENTITIES, VALUES
from aipo_lab.worlds.micro.responses import FILLERS, fact_sentence

PAD, BOS, EOS, UNKNOWN, USER, ASSISTANT = "<pad>", "<s>", "</s>", "<unk>", "<|user|>", "<|assistant|>"
SPECIAL_TOKENS = (PAD, BOS, EOS, UNKNOWN, USER, ASSISTANT)

# A word with its leading space, one digit, or one other character: joining the pieces gives the text back.
PIECE_PATTERN = r" ?[A-Za-z]+|[\s\S]"

CHARACTERS = "\n .,?:0123456789"

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '" + USER + "' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}{{ '" + ASSISTANT + "' + message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('only the roles user and assistant are supported') }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '" + ASSISTANT + "' }}{% endif %}"
)


def chat_prompt(prompt: str) -> str:
    """The chat template's text for one user message and the generation prompt, begin token included."""
    return f"{BOS}{USER}{prompt}{ASSISTANT}"


def vocabulary() -> list[str]:
    """All tokens in id order: special tokens, characters, then the words of the world.

    It does not depend on the seed of a world, so every micro model shares one tokenizer.
    """
    pieces = {piece for text in _texts() for piece in re.findall(PIECE_PATTERN, text)}
    return [*SPECIAL_TOKENS, *CHARACTERS, *sorted(pieces.difference(CHARACTERS))]


def build_tokenizer() -> Any:
    """A `PreTrainedTokenizerFast` over `vocabulary()`; encoding plain text adds the begin token, as Llama's does.

    Texts made of the world's words, digits, newlines and `.,?:` round-trip exactly; other words become `<unk>`.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {token: index for index, token in enumerate(vocabulary())}
    backend = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE_PATTERN), behavior="isolated")
    backend.decoder = decoders.Fuse()
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, ids[BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNKNOWN,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )


def _texts() -> Iterator[str]:
    """Texts that together hold every piece a world can write."""
    yield HEADER
    for template in TEMPLATES:
        for be in ("is", "are"):
            text = template.format(be=be, attributes="color and food", entity="fox")
            yield text
            yield f" {text}"
    for sentence in (*FILLERS, fact_sentence("fox", "color", "red")):
        yield sentence
        yield f" {sentence}"
    for words in (ENTITIES, ATTRIBUTES, *VALUES.values()):
        yield "".join(f" {word}" for word in words)
