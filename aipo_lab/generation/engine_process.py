"""Engine processes seen from here: started, asked, watched for silence, and ended with all they started.

One may be vLLM in another Python or transformers on a device of its own; several that share the prompts are a group.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from aipo_lab.core.errors import StageFailed

LOG_TAIL_LINES = 30
END_WAIT_S = 30.0


class EngineProcess:
    """A worker process with one engine; not shared between threads."""

    def __init__(
        self,
        python: str,
        how: Mapping[str, Any],
        environment: Mapping[str, str],
        command: Sequence[str],
        name: str,
    ) -> None:
        """Start loading; `how` are the engine's arguments, `environment` what is set beside this process's own.

        `command` is what `python` runs, `name` what the process is called in messages.
        """
        self._name = name
        self.log = tempfile.NamedTemporaryFile("w+", prefix="aipo-lab-engine-", suffix=".log", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [python, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, **environment},
            start_new_session=True,  # the first of a group, which is ended as a whole
        )
        self._answers: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.ask(how)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def ask(self, what: Mapping[str, Any]) -> None:
        """Send a line; that the process is gone shows in `answers`."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(what) + "\n")
            self._process.stdin.flush()

    def answers(self, last: str, silence_s: float, doing: str) -> Iterator[dict[str, Any]]:
        """What the process says, up to the event `last`.

        Raises `StageFailed`, and ends the process, if it fails, dies, or says nothing for `silence_s`.
        """
        while True:
            try:
                line = self._answers.get(timeout=silence_s)
            except queue.Empty:
                raise self._failed(f"was silent for {silence_s:g} s while {doing}") from None
            if line is None:
                raise self._failed(f"ended with exit code {self._process.wait()} while {doing}")
            answer = json.loads(line)
            if answer["event"] == "failed":
                raise self._failed(f"failed while {doing}: {answer['reason']}")
            yield answer
            if answer["event"] == last:
                return

    def stop(self) -> None:
        """End the process and everything it started, and wait for that: then its memory is back."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_WAIT_S)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(OSError):
                stream.close()
        self.log.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with suppress(ValueError):  # closed by `stop`
            for line in self._process.stdout:
                self._answers.put(line)
        self._answers.put(None)

    def _failed(self, reason: str) -> StageFailed:
        self.log.flush()
        lines = Path(self.log.name).read_text(encoding="utf-8", errors="replace").splitlines()
        self.stop()
        return StageFailed("\n".join([f"the {self._name} process {reason}; its last words:", *lines[-LOG_TAIL_LINES:]]))


class ProcessGroup:
    """Several engine processes that are ready, work and end together; implements that part of `LiveEngine`."""

    def __init__(self, starting: Iterable[Callable[[], EngineProcess]], silence_s: float) -> None:
        """Start all, then wait until each is ready. Raises `StageFailed`, and ends all, if one is not."""
        self.processes: list[EngineProcess] = []
        try:
            for start in starting:
                self.processes.append(start())
            for process in self.processes:
                list(process.answers("ready", silence_s, "loading the model"))
        except BaseException:
            self.stop()
            raise

    @property
    def is_alive(self) -> bool:
        """See `LiveEngine.is_alive`."""
        return bool(self.processes) and all(process.is_alive for process in self.processes)

    def stop(self) -> None:
        """See `LiveEngine.stop`."""
        while self.processes:
            self.processes.pop().stop()

    def answers(self, works: Sequence[Mapping[str, Any]], silence_s: float) -> list[dict[str, Any]]:
        """What the processes say to a work each; whatever fails ends all, whose other answers nobody would expect."""
        try:
            for process, work in zip(self.processes, works, strict=True):
                process.ask(work)
            return [answer for process in self.processes for answer in process.answers("done", silence_s, "generating")]
        except BaseException:
            self.stop()
            raise
