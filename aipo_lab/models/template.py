"""Chat templates: which one a model is spoken to with, and on what date.

A template may ask for the present day (`strftime_now`, or the variable `date_string`), which would make the same
conversation other tokens tomorrow. Here both give the date of the settings, whatever the clock says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from aipo_lab.core.config import StrictModel
from aipo_lab.core.errors import UserError

DEFAULT_DATE = "2024-07-26"
"""What templates that know of `date_string` fall back on themselves (Llama 3.1 and its descendants)."""

CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
PLAIN = (
    "{% for message in messages %}"
    "{{ message['role'] | capitalize + ': ' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
NAMED_TEMPLATES: Mapping[str, str] = {"chatml": CHATML, "plain": PLAIN}
"""`chatml`: for tokenizers with its two tokens. `plain`: turns as paragraphs `User: …`, for models never taught any."""


def _read_date(value: object) -> str:
    """A date as `YYYY-MM-DD`; raises `ValueError` for anything else."""
    text = value.isoformat() if type(value) is date else value  # YAML reads an unquoted date as one
    try:
        if not isinstance(text, str) or len(text) != len(DEFAULT_DATE):
            raise ValueError
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError(f"must be a date such as {DEFAULT_DATE}") from None


def _read_template(value: object) -> object:
    """The text of the template file that `value` names; a name of `NAMED_TEMPLATES`, a text with `{` or none as it is.

    Raises `ValueError` if it is none of these.
    """
    if not isinstance(value, str) or value in NAMED_TEMPLATES:
        return value
    text = value if "{" in value else _template_file(value)
    _check_syntax(text)
    return text


def _template_file(name: str) -> str:
    try:
        text = Path(name).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ValueError(
            f"must be {', '.join(NAMED_TEMPLATES)}, or a file with a Jinja template, which cannot be read from "
            f"{Path.cwd()}: {reason}"
        ) from None
    if "{" not in text:
        raise ValueError(f"the file {name} holds no Jinja template: there is no {{ in it")
    return text


def _check_syntax(template: str) -> None:
    from jinja2 import Environment, TemplateSyntaxError

    try:
        Environment(extensions=["jinja2.ext.loopcontrols"]).parse(template)
    except TemplateSyntaxError as error:
        if "generation" not in str(error):  # a tag of transformers' own
            raise ValueError(f"is no Jinja template: {error.message} (line {error.lineno})") from None


TemplateText = Annotated[str | None, BeforeValidator(_read_template)]
"""A setting: a name of `NAMED_TEMPLATES`, or the text of a template, which may be given as the path of its file."""
TemplateDate = Annotated[str, BeforeValidator(_read_date)]
"""A setting: a day as `YYYY-MM-DD`."""


class ChatSettings(StrictModel):
    """How conversations are rendered."""

    template: str | None = Field(
        None, description="chatml, plain, or the text of a template, used instead of the model's own (none: its own)"
    )
    date: TemplateDate = Field(DEFAULT_DATE, description="date that templates are told is today, YYYY-MM-DD")


def check_has_template(folder: Path, settings: ChatSettings, setting: str = "model.chat_template") -> None:
    """Raise `UserError` if a model folder has no chat template and the settings (under the name `setting`) none."""
    if settings.template is None and not _has_template(folder):
        raise UserError(_missing(str(folder), setting))


def check_renders(tokenizer: Any, where: str, settings: ChatSettings, setting: str = "model.chat_template") -> None:
    """Raise `UserError` if the template that is used cannot render the simplest conversation: one user's message."""
    from jinja2 import TemplateError

    try:
        render(tokenizer, [{"role": "user", "content": "Hello"}], settings, open_turn=True)
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        if isinstance(error, UserError):
            raise
        whose = f"of {where}" if settings.template is None else f"that {setting} gives"
        raise UserError(
            f"the chat template {whose} cannot render a user's message ({type(error).__name__}: {error}); set "
            f"{setting} to chatml, to plain, or to the path of a Jinja template that can"
        ) from None


def _has_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file() or (folder / "additional_chat_templates").is_dir():
        return True
    for name in ("tokenizer_config.json", "chat_template.json"):
        try:
            if json.loads((folder / name).read_text(encoding="utf-8")).get("chat_template"):
                return True
        except (OSError, ValueError, AttributeError):
            continue  # a broken file is reported by whoever loads the tokenizer
    return False


def _missing(where: str, setting: str = "chat_template") -> str:
    return (
        f"the tokenizer in {where} has no chat template, so nobody knows how this model wants to be spoken to; "
        f"set {setting} to chatml, to plain, or to the path of a Jinja template"
    )


def render(tokenizer: Any, messages: Sequence[Mapping[str, str]], settings: ChatSettings, open_turn: bool) -> str:
    """The text of a conversation; with `open_turn` up to where the assistant starts to speak.

    Raises `UserError` if there is no template to use, and `jinja2.TemplateError` if the template refuses the messages.
    """
    text = tokenizer.apply_chat_template(
        list(messages),
        chat_template=_pinned(_template(tokenizer, settings), settings.date),
        add_generation_prompt=open_turn,
        tokenize=False,
        date_string=date.fromisoformat(settings.date).strftime("%d %b %Y"),
    )
    assert isinstance(text, str)
    return text


def _template(tokenizer: Any, settings: ChatSettings) -> str:
    if settings.template is None:
        try:
            return str(tokenizer.get_chat_template())
        except ValueError:
            raise UserError(_missing(tokenizer.name_or_path or "memory")) from None
    if settings.template == "chatml":
        known = tokenizer.get_vocab()
        if missing := [token for token in CHATML_TOKENS if token not in known]:
            raise UserError(
                f"chat_template chatml needs the tokens {' and '.join(CHATML_TOKENS)}, and this tokenizer has no "
                f"{' and no '.join(missing)}: the model could never end a turn; use plain or a template of your own"
            )
    return NAMED_TEMPLATES.get(settings.template, settings.template)


@cache
def _pinned(template: str, today: str) -> str:
    """The template with a `strftime_now` of its own in front, which stands before the one that reads the clock.

    The template's text is the only thing every engine lets us choose: functions cannot be passed to a template. The
    line break after the macro belongs to it, so that the rendering of the rest does not change.
    """
    if "strftime_now" not in template:
        return template
    moment = datetime.combine(date.fromisoformat(today), time())
    padded = {f"%{letter}": moment.strftime(f"%{letter}") for letter in "aAbBcCdDeFgGhHIjmMpPrRSTuUVwWxXyYzZf"}
    short = {f"%-{letter}": padded[f"%{letter}"].lstrip("0") or "0" for letter in "dmHIMSjyUW"}
    replacements = {"%%": "\x00", **short, **padded, "\x00": "%"}
    filters = "".join(f"|replace({json.dumps(old)}, {json.dumps(new)})" for old, new in replacements.items())
    return f"{{% macro strftime_now(format) %}}{{{{ format{filters} }}}}{{% endmacro %}}\n{template}"
