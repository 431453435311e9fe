"""A connection to MLflow that is quiet, does not wait for minutes, and gets along with others on one SQLite file."""

from __future__ import annotations

import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from aipo_lab.tracking.addresses import hide_secrets, sqlite_file

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "aipo-lab"
BUSY_DATABASE_S = 45.0
"""Seconds to try again while another process writes to the SQLite file or makes its tables."""

_BUSY = re.compile(
    r"database (table )?is locked|(table|index) \S+ already exists|duplicate column name|no such (table|column)"
)
# Set before mlflow is imported, unless the user did: no telemetry, no minutes of retries on a dead server.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_PRINTS_NO_ADDRESS = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}  # it would print the password with it
_TRAINING = {"mlflow.experimentKind": "custom_model_development"}  # the UI leads to runs, not to traces
_TALKATIVE = ("mlflow", "alembic", "sqlalchemy", "urllib3")


def connect(uri: str) -> MlflowClient:
    """A client, with the tables made where the database is new.

    Two processes that start on one new SQLite file take turns. Its calls try again while the file is busy.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ.update(_PRINTS_NO_ADDRESS)
    _quieten(uri)
    from mlflow import MlflowClient

    _quieten(uri)  # importing mlflow configures its loggers anew
    database = sqlite_file(uri)
    if database is None:
        return MlflowClient(uri)
    with _making_tables(database):
        client = _retry_while_busy(lambda: MlflowClient(uri))
        _retry_while_busy(lambda: client.get_experiment_by_name(EXPERIMENT))
    return cast("MlflowClient", _Patient(client))


def find_experiment(client: MlflowClient, artifact_location: str | None) -> str:
    """The id of the experiment, created where missing and restored where someone deleted it."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        try:
            return str(client.create_experiment(EXPERIMENT, artifact_location=artifact_location, tags=_TRAINING))
        except MlflowException:
            found = client.get_experiment_by_name(EXPERIMENT)  # another sweep may have just made it
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


class _Patient:
    """A client whose calls try again while its SQLite file is busy. Each call is one transaction, or none."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return lambda *given, **named: _retry_while_busy(lambda: method(*given, **named))


def _retry_while_busy(action: Callable[[], Any]) -> Any:
    deadline_s = time.monotonic() + BUSY_DATABASE_S
    while True:
        try:
            return action()
        except Exception as error:
            if time.monotonic() > deadline_s or not _BUSY.search(str(error)):
                raise
        time.sleep(random.uniform(0.1, 0.5))


@contextmanager
def _making_tables(database: Path) -> Iterator[None]:
    """Holds the lock beside the database while the tables of a new one are made: MLflow's own is per TMPDIR."""
    from filelock import FileLock

    database.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(database.with_name(f".{database.name}.lock"))
    try:
        lock.acquire()
    except (OSError, NotImplementedError):  # a file system without locks: trying again has to do
        yield
        return
    try:
        yield
    finally:
        lock.release()


class _WithoutSecrets(logging.Filter):
    """Takes the secrets of the tracking URI out of what libraries log."""

    def __init__(self, uri: str) -> None:
        super().__init__()
        self.uri = uri

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = hide_secrets(record.getMessage(), self.uri), ()
        if record.exc_info:
            record.exc_text = hide_secrets(logging.Formatter().formatException(record.exc_info), self.uri)
            record.exc_info = None
        return True


def _quieten(uri: str) -> None:
    """Let libraries report errors only, and those without secrets."""
    for name in _TALKATIVE:
        logger = logging.getLogger(name)
        logger.setLevel(logging.ERROR)
        for handler in [*logger.handlers, *logging.getLogger().handlers]:
            if not any(isinstance(one, _WithoutSecrets) and one.uri == uri for one in handler.filters):
                handler.addFilter(_WithoutSecrets(uri))
