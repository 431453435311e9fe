"""Chat templates: the day is the settings' day, and a model without a template is not spoken to by guess."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from model_variants import TEMPLATE, make_variant
from transformers.utils import chat_template_utils

from aipo_lab.core.errors import UserError
from aipo_lab.models.chat import encode_prompt, encode_text_prompt, turn_end_token, user_message
from aipo_lab.models.policy import load_tokenizer
from aipo_lab.models.template import ChatSettings, check_has_template, render
from aipo_lab.pipeline.base_model import find_base_model
from aipo_lab.pipeline.recipe import build_recipe, profile_values

MESSAGES = user_message("is the fox red?")
READS_THE_CLOCK = "{{ strftime_now('%d %b %Y %H:%M:%S.%f') }} {% for m in messages %}{{ m.content }}{% endfor %}"
LLAMA_LIKE = (
    "{%- if not date_string is defined %}{%- if strftime_now is defined %}{%- set date_string = "
    "strftime_now('%d %b %Y') %}{%- else %}{%- set date_string = '26 Jul 2024' %}{%- endif %}{%- endif %}"
    "Today Date: {{ date_string }}"
)


@pytest.fixture
def with_template(tokenizer: Any) -> Callable[[str | None], Any]:
    def make(template: str | None) -> Any:
        changed = copy.deepcopy(tokenizer)
        changed.chat_template = template
        return changed

    return make


def at(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
    """Let transformers' clock stand at `moment`."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return moment

    monkeypatch.setattr(chat_template_utils, "datetime", Clock)


def test_a_template_that_reads_the_clock_reads_the_settings_date(
    with_template: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = with_template(READS_THE_CLOCK)
    seen = set()
    for moment in (datetime(2025, 1, 2, 3, 4, 5), datetime(2031, 12, 30, 23, 59)):
        at(monkeypatch, moment)
        assert moment.strftime("%d %b %Y") in tokenizer.apply_chat_template(MESSAGES, tokenize=False)
        seen.add((render(tokenizer, MESSAGES, ChatSettings(), True), *encode_prompt(tokenizer, MESSAGES)))
    ((text, *_),) = seen
    assert text == "26 Jul 2024 00:00:00.000000 is the fox red?"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (LLAMA_LIKE, "Today Date: 05 Mar 2023"),
        ("{{ date_string }}", "05 Mar 2023"),
        ("{{ strftime_now('%-d/%-m/%y, day %j, 100%%, %%d, %A %B') }}", "5/3/23, day 064, 100%, %d, Sunday March"),
        ("{{ strftime_now(format='%Y-%m-%d') | upper }}", "2023-03-05"),
        ("{% set f = strftime_now %}{% macro day() %}{{ f('%d') | int - 1 }}{% endmacro %}{{ day() }}", "4"),
        ("\n\n  {% if true %}x{{ strftime_now('%Y') }}{% endif %}\n", "\n\nx2023"),
        ("  {% if true %}x{{ strftime_now('%Y') }}{% endif %}\n", "x2023"),
    ],
)
def test_the_date_is_that_of_the_settings_however_it_is_asked_for(
    with_template: Callable[..., Any], template: str, text: str
) -> None:
    assert render(with_template(template), MESSAGES, ChatSettings(date="2023-03-05"), True) == text


@pytest.mark.parametrize("template", [LLAMA_LIKE, "\n\n {% if true %}\n {{ strftime_now('%Y') }}\n\n{% endif %} x"])
def test_pinning_changes_the_date_and_nothing_else(
    with_template: Callable[..., Any], template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(monkeypatch, datetime(2023, 3, 5))
    tokenizer = with_template(template)
    as_is = tokenizer.apply_chat_template(MESSAGES, tokenize=False)
    assert render(tokenizer, MESSAGES, ChatSettings(date="2023-03-05"), False) == as_is


def test_a_named_template_stands_in_for_a_missing_one(with_template: Callable[..., Any]) -> None:
    bare = with_template(None)
    text = render(
        bare, [*MESSAGES, {"role": "assistant", "content": "Yes."}, *MESSAGES], ChatSettings(template="plain"), True
    )
    assert text == "User: is the fox red?\n\nAssistant: Yes.</s>\n\nUser: is the fox red?\n\nAssistant:"
    assert encode_prompt(bare, MESSAGES, ChatSettings(template="plain"))[0] == bare.bos_token_id
    assert turn_end_token(bare, ChatSettings(template="plain")) == bare.eos_token_id
    with pytest.raises(UserError, match=r"no <\|im_start\|> and no <\|im_end\|>"):
        encode_prompt(bare, MESSAGES, ChatSettings(template="chatml"))
    bare.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    text = render(bare, MESSAGES, ChatSettings(template="chatml"), True)
    assert text == "<|im_start|>user\nis the fox red?<|im_end|>\n<|im_start|>assistant\n"
    assert turn_end_token(bare, ChatSettings(template="chatml")) == bare.convert_tokens_to_ids("<|im_end|>")


@pytest.mark.parametrize("add_eos", [False, True])
@pytest.mark.parametrize("begin", ["", "{{ bos_token }}", "{{ bos_token }}{{ bos_token }}"])
def test_a_prompt_has_one_begin_token_and_no_end_token(tmp_path: Path, begin: str, add_eos: bool) -> None:
    template = TEMPLATE.replace("{{ bos_token }}", begin)
    tokenizer = load_tokenizer(make_variant(tmp_path / "model", template=template, add_eos=add_eos))
    assert (tokenizer("fox")["input_ids"][-1] == tokenizer.eos_token_id) == add_eos
    for prompt in (encode_prompt(tokenizer, MESSAGES), encode_text_prompt(tokenizer, MESSAGES[0]["content"])):
        assert prompt.count(tokenizer.bos_token_id) == 1 and prompt[0] == tokenizer.bos_token_id
        assert tokenizer.eos_token_id not in prompt


def test_a_tokenizer_without_begin_token_gets_none(with_template: Callable[..., Any]) -> None:
    from tokenizers import processors

    tokenizer = with_template("<|user|>{{ messages[0].content }}")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    assert tokenizer.bos_token_id not in encode_prompt(tokenizer, MESSAGES)
    assert tokenizer.bos_token_id not in encode_text_prompt(tokenizer, "fox")


def test_a_model_folder_without_template_is_refused_before_work(tmp_path: Path) -> None:
    folder = make_variant(tmp_path / "model", template=None)
    with pytest.raises(UserError, match=r"no chat template.*set model\.chat_template to chatml, to plain, or"):
        check_has_template(folder, ChatSettings())
    check_has_template(folder, ChatSettings(template="plain"))
    check_has_template(make_variant(tmp_path / "other"), ChatSettings())


def test_the_recipe_keeps_the_text_of_a_template_file_and_the_date(tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text("<{{ messages[0].content }}>")
    values = [("model.chat_template", str(tmp_path / "t.jinja")), ("model.template_date", "2023-03-05")]
    recipe = build_recipe(profile_values("micro"), values)
    assert recipe.model.chat() == ChatSettings(template="<{{ messages[0].content }}>", date="2023-03-05")
    assert build_recipe(recipe.resolved()) == recipe
    assert build_recipe(profile_values("micro")).resolved()["model"]["template_date"] == "2024-07-26"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("template_date", "yesterday", "must be a date such as 2024-07-26"),
        ("template_date", 20240726, "must be a date such as 2024-07-26"),
        ("template_date", "2024-02-30", "must be a date such as 2024-07-26"),
        ("chat_template", "no-such-file.jinja", "chatml, plain, or a file with a Jinja template, which cannot be read"),
        ("chat_template", "{% if %}", "no Jinja template"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(key: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=rf"model\.{key}.*{message}"):
        build_recipe(profile_values("micro"), [(f"model.{key}", value)])


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m['nothing']['x'] }}{% endfor %}",
        "{% for m in messages %}{{ m['content'] }}",
        "{{ raise_exception('nobody speaks to this model') }}",
        "{{ messages[5]['content'] }}",
        "{{ 1 / 0 }}",
    ],
)
def test_a_template_that_fails_is_told_before_any_work(tmp_path: Path, template: str) -> None:
    folder = make_variant(tmp_path / "model", template=template)
    recipe = build_recipe(profile_values("micro"), [("model.source", str(folder))])
    with pytest.raises(UserError, match=r"cannot render a user's message .* set model\.chat_template"):
        find_base_model(str(folder)).check_speaks(recipe)
    plain = build_recipe(recipe.resolved(), [("model.chat_template", "plain")])
    find_base_model(str(folder)).check_speaks(plain)
