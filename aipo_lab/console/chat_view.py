"""What `aipo-lab chat` shows: answers as they are written, with their lengths in tokens; two models side by side.

Answers go to standard output, everything else to standard error, so that a pipe gets the model's words alone. On a
terminal the conversation goes on until Ctrl-D, Ctrl-C or /exit; a pipe's lines are its turns.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from aipo_lab.console.chat_models import ChatModel
from aipo_lab.console.running import say
from aipo_lab.core.config import validate
from aipo_lab.core.errors import UserError
from aipo_lab.core.unicode import repaired
from aipo_lab.generation.conversation import Conversation
from aipo_lab.generation.engine import Completion, SamplingConfig

NEW, EXIT = "/new", "/exit"
MIN_COLUMN_WIDTH = 30
"""Characters: on narrower terminals two models answer one below the other."""


@dataclass(frozen=True)
class ChatOptions:
    """How the models are asked."""

    sampling: SamplingConfig
    seed: int
    system: str | None
    device: str
    dtype: str


def chat_options(*, seed: int, system: str | None, device: str, dtype: str, **sampling: Any) -> ChatOptions:
    """The options as the command line has them; `sampling` are those of `SamplingConfig`."""
    checked = validate(SamplingConfig, sampling, "the command")
    return ChatOptions(checked, seed, None if system is None else repaired(system), device, dtype)


def hold_conversation(models: Sequence[ChatModel], options: ChatOptions, prompt: str | None) -> None:
    """Hold a conversation with one or two models; with `prompt`, one turn of it (`-`: all of standard input)."""
    view = _View(models, options)
    try:
        if prompt is not None:
            view.turn(_whole_prompt(prompt))
        else:
            _converse(view)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read has enough; Python would complain at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _whole_prompt(prompt: str) -> str:
    text = repaired(sys.stdin.read() if prompt == "-" else prompt).strip()
    if not text:
        raise UserError("there is nothing to answer: " + ("standard input is empty" if prompt == "-" else "--prompt"))
    return text


def _converse(view: _View) -> None:
    """Turn after turn until the input ends; Ctrl-C ends it too, whatever it comes upon."""
    try:
        for text in _turns(view.notes):
            if text == NEW:
                view.begin()
                continue
            try:
                view.turn(text)
            except UserError as error:
                if not sys.stdin.isatty():
                    raise
                say(view.notes, f"{error} ({NEW})")
    except KeyboardInterrupt:
        sys.stdout.write("\n")


def _turns(notes: Console) -> Iterator[str]:
    """What the person says, turn by turn."""
    if sys.stdin.isatty():
        import readline  # noqa: F401 - line editing and history

        say(notes, f"{NEW} begins a new conversation, {EXIT} or Ctrl-D ends")
        ask = "\n> "
    else:
        ask = ""
    while True:
        try:
            text = repaired(input(ask)).strip()
        except EOFError:
            if ask:
                sys.stdout.write("\n")
            return
        if text == EXIT:
            return
        if text:
            yield text


class _View:
    """The models with their conversations, and where their answers are shown."""

    def __init__(self, models: Sequence[ChatModel], options: ChatOptions) -> None:
        self.models = models
        self.options = options
        self.notes = Console(stderr=True)
        with self.notes.status("loading " + " and ".join(model.name for model in models)):
            self.policies = [model.load(options.device, options.dtype) for model in models]
        self.begin()

    def begin(self) -> None:
        """Start new conversations; the old ones are forgotten."""
        options = self.options
        self.conversations = [
            Conversation(policy, model.chat, options.sampling, options.seed, options.system)
            for policy, model in zip(self.policies, self.models, strict=True)
        ]

    def turn(self, text: str) -> None:
        """Show every model's answer to `text`."""
        screen = Console()
        if len(self.models) == 2 and screen.is_terminal and screen.width >= 2 * MIN_COLUMN_WIDTH:
            self._beside(text, screen)
            return
        for model, conversation in zip(self.models, self.conversations, strict=True):
            if len(self.models) > 1:
                _write(f"== {model.name}\n")
            answer = conversation.reply(text, _write)
            _write("\n")
            say(self.notes, f"[{_length(answer)}]")

    def _beside(self, text: str, screen: Console) -> None:
        """Two answers in two columns, the second one written when the first is whole."""
        said = ["", ""]
        lengths = ["", ""]

        def table() -> Table:
            columns = Table(expand=True)
            for model, length in zip(self.models, lengths, strict=True):
                columns.add_column(Text(model.name), Text(length), ratio=1, overflow="fold")
            columns.show_footer = any(lengths)
            columns.add_row(*(Text(visible(one)) for one in said))
            return columns

        with Live(table(), console=screen, transient=True, refresh_per_second=10) as live:
            for place, conversation in enumerate(self.conversations):

                def show(piece: str, place: int = place) -> None:
                    said[place] += piece
                    live.update(table())

                lengths[place] = _length(conversation.reply(text, show))
                live.update(table())
        screen.print(table())


def _write(text: str) -> None:
    sys.stdout.write(visible(text))
    sys.stdout.flush()


def visible(text: str) -> str:
    """The text with control characters, which would steer the terminal, replaced; line ends and tabs stay."""
    return "".join("\ufffd" if unicodedata.category(one) == "Cc" and one not in "\n\t" else one for one in text)


def _length(answer: Completion) -> str:
    cut = ", cut off there" if answer.truncated else ""
    return f"{answer.n_tokens} token{'' if answer.n_tokens == 1 else 's'}{cut}"
