"""The MLflow UI as a child: its address is on no command line, and nothing of it outlives this program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from aipo_lab.tracking.addresses import hide_secrets

END_S = 5.0
"""Seconds that the UI's processes have to end by themselves."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run_ui(uri: str, port: int) -> int:
    """Run the UI on a database until it ends or this process is told to; returns the exit code.

    MLflow starts workers of its own, which a signal to it does not reach: all of them are one process group, which
    ends as one. What they print is passed on without the secrets of `uri`.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
        env=_environment(uri),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    previous = {number: signal.signal(number, _stop) for number in _SIGNALS}
    try:
        assert process.stdout is not None
        for line in process.stdout:
            print(hide_secrets(line, uri), end="", file=sys.stderr, flush=True)
        return process.wait()
    except _Stopped as stopped:
        return 128 + stopped.signal
    finally:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave half of the group behind
        _end_group(process)
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Stopped(Exception):
    def __init__(self, number: int) -> None:
        self.signal = number


def _stop(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    raise _Stopped(number)


def _environment(uri: str) -> dict[str, str]:
    """The UI only looks: no jobs, whose processes would be sessions of their own, and no telemetry."""
    own = {"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    telemetry = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    return telemetry | dict(os.environ) | own


def _end_group(process: subprocess.Popen[str]) -> None:
    _signal_group(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_S)
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: subprocess.Popen[str], number: int) -> None:
    with suppress(ProcessLookupError):  # all of them have ended
        os.killpg(process.pid, number)
