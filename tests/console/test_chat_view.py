"""`aipo-lab chat` from a shell: one answer, a pipe, a terminal, two models, and every way to leave."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from pathlib import Path

import pytest
from small_sweep import AIPO_LAB, aipo_lab

from aipo_lab.console.chat_view import visible

ASK = "What is the color of the fox?"


def test_one_answer_is_the_models_words_alone_and_its_length_is_said(finished_sweep: Path) -> None:
    done = aipo_lab("chat", "dpo-b0.1@2", "--prompt", ASK, "--max-new-tokens", "7", cwd=finished_sweep)
    assert done.returncode == 0 and done.stdout.count("\n") == 1 and done.stdout.strip()
    assert re.search(r"\[7 tokens(, cut off there)?\]|\[[1-6] tokens?\]", done.stderr)
    again = aipo_lab("chat", "dpo-b0.1@2", "--prompt", "-", "--max-new-tokens", "7", cwd=finished_sweep, stdin=ASK)
    assert again.stdout == done.stdout
    store, table = finished_sweep / "runs" / "store", finished_sweep / "runs" / "tiny" / "results.csv"
    row = next(line for line in table.read_text().splitlines() if ",2,complete" in line)
    folder = store / row.split(",")[8] / "model"
    by_folder = aipo_lab("chat", folder, "--prompt", ASK, "--max-new-tokens", "7", cwd=finished_sweep)
    assert by_folder.stdout == done.stdout


def test_a_pipes_lines_are_turns_of_one_conversation_with_each_model(finished_sweep: Path) -> None:
    arguments = ("chat", "dpo-b0.1@0", "simpo-b2-g0.5@2", "--max-new-tokens", "6")
    done = aipo_lab(*arguments, cwd=finished_sweep, stdin=f"{ASK}\n\n{ASK}\n/new\n{ASK}\n/exit\n{ASK}\n")
    assert done.returncode == 0
    turns = done.stdout.split("== dpo-b0.1@0\n")[1:]
    assert len(turns) == 3 and all("== simpo-b2-g0.5@2\n" in turn for turn in turns)
    assert turns[0] == turns[2]
    assert done.stderr.count(" token") == 6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("micro",), "TRIAL@0"),
        (("nosuch",), "is not a folder that exists"),
        (("dpo-b0.1@9",), "iterations 0 (the base model) to 2"),
        (("a", "b", "c"), "one, or to two side by side"),
        (("dpo-b0.1@1", "--prompt", " "), "nothing to answer"),
        (("dpo-b0.1@1", "--prompt", "-"), "standard input is empty"),
        (("dpo-b0.1@1", "--prompt", "x", "--device", "cuda:7"), "try --device cpu"),
        (("dpo-b0.1@1", "--prompt", "x", "--temperature", "nan"), "temperature"),
        (("dpo-b0.1@1", "--prompt", "x", "--chat-template", "nosuch.jinja"), "--chat-template: must be chatml"),
        (("dpo-b0.1@1", "--prompt", "fox " * 600), "no room for an answer"),
        (("dpo-b0.1@1", "--prompt", "x", "--from", "nowhere"), "holds no sweep"),
    ],
)
def test_what_cannot_be_is_refused(finished_sweep: Path, arguments: tuple[str, ...], said: str) -> None:
    done = aipo_lab("chat", *arguments, cwd=finished_sweep)
    assert done.returncode == 2 and said in done.stderr


def test_a_reader_that_has_enough_is_no_error(finished_sweep: Path) -> None:
    line = f"printf '%s\\n' {'fox ' * 300} | '{AIPO_LAB}' chat dpo-b0.1@2 --max-new-tokens 5 | head -n 1"
    done = subprocess.run(["sh", "-c", line], cwd=finished_sweep, capture_output=True, text=True, timeout=200)
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert visible("a\x1b[2Jb\r\n\tc\x07é\u3000\u200d🦊") == "a\ufffd[2Jb\ufffd\n\tc\ufffdé\u3000\u200d🦊"


class Terminal:
    """The program on a pseudo-terminal."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.main, side = pty.openpty()
        environment = {**os.environ, "COLUMNS": "100", "OMP_NUM_THREADS": "1", "TERM": "xterm"}
        self.process = subprocess.Popen(
            [AIPO_LAB, *arguments],
            cwd=folder,
            env=environment,
            stdin=side,
            stdout=side,
            stderr=side,
            start_new_session=True,
            preexec_fn=_own_terminal,
        )
        os.close(side)
        self.seen = ""

    def wait_for(self, pattern: str, timeout_s: float = 120) -> None:
        until = time.monotonic() + timeout_s
        while not re.search(pattern, self.seen):
            ready, _, _ = select.select([self.main], [], [], 1)
            try:
                self.seen += os.read(self.main, 4096).decode(errors="replace") if ready else ""
            except OSError:  # the program has ended
                break
            assert time.monotonic() < until, self.seen
        assert re.search(pattern, self.seen), self.seen

    def send(self, text: str) -> None:
        self.seen = ""
        os.write(self.main, text.encode())

    def end(self) -> int:
        try:
            code = self.process.wait(60)
        finally:
            self.process.kill()
            os.close(self.main)
        assert "Traceback" not in self.seen
        return code


def _own_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_on_a_terminal_ctrl_d_leaves(finished_sweep: Path) -> None:
    terminal = Terminal(finished_sweep, "chat", "dpo-b0.1@0", "dpo-b0.1@2", "--max-new-tokens", "6")
    terminal.wait_for("> ")
    terminal.send(ASK + "\n")
    terminal.wait_for(r"(?s)dpo-b0.1@0.*dpo-b0.1@2.*\d tokens?.*> ")  # beside each other, in one table
    terminal.send("\x04")
    assert terminal.end() == 0


@pytest.mark.parametrize("at", ["the question", "an answer"])
def test_on_a_terminal_ctrl_c_leaves(finished_sweep: Path, at: str) -> None:
    terminal = Terminal(finished_sweep, "chat", "dpo-b0.1@2", "--temperature", "0", "--max-new-tokens", "480")
    terminal.wait_for("> ")
    if at == "an answer":
        terminal.send(ASK + "\n")
        terminal.wait_for(r"\n\S")
    terminal.send("\x03")
    assert terminal.end() == 0
