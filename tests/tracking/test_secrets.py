"""A password in the tracking URI is in no output, file or command line, whatever goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from made_up_store import make_up

from aipo_lab.core.store import Store
from aipo_lab.sweeps.plan import build_graph
from aipo_lab.sweeps.sweep import load_sweep
from aipo_lab.tracking.addresses import hide_secrets, safe_uri
from aipo_lab.tracking.guards import SafeTracker
from aipo_lab.tracking.tracker import Tracker
from tracking.servers import RealServer, free_port
from tracking.test_ui import PASSWORD, command_lines


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://user:secret@host/x", "https://***@host/x"),
        ("https://token@host", "https://***@host"),
        ("postgresql://u:p/s?s#x@host:5/db", "postgresql://***@host:5/db"),
        ("postgresql://u:p@s@host/db", "postgresql://***@host/db"),
        ("postgresql+psycopg2://host/db?user=a&password=secret", "postgresql+psycopg2://host/db?user=***&password=***"),
        ("mssql+pyodbc:///?odbc_connect=PWD%3Dsecret", "mssql+pyodbc:///?odbc_connect=***"),
        ("sqlite+pysqlcipher://:secret@/f.db", "sqlite+pysqlcipher://***@/f.db"),
        ("http://host:5000/", "http://host:5000/"),
        ("sqlite:////tmp/a@b.db", "sqlite:////tmp/a@b.db"),
        ("file:///tmp/x@y", "file:///tmp/x@y"),
        ("databricks://profile", "databricks://profile"),
        ("/tmp/mlruns", "/tmp/mlruns"),
    ],
)
def test_a_uri_is_shown_without_its_secrets(uri: str, shown: str) -> None:
    assert safe_uri(uri) == shown


@given(
    password=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=20),
    scheme=st.sampled_from(["https", "postgresql", "mysql+pymysql"]),
)
def test_no_password_survives_in_a_uri_or_a_message(password: str, scheme: str) -> None:
    uri = f"{scheme}://me:{password}@host/db"
    assert password not in safe_uri(uri)
    for message in (f"cannot reach {uri}", f"wrong password {password!r}", f"password is {password}; {uri}"):
        hidden = hide_secrets(message, uri)
        assert password not in hidden or password in "cannot reach wrong password is ***@host/db"


def test_percent_encoded_passwords_are_hidden_in_both_forms() -> None:
    uri = "postgresql://me:p%40ss-word@host/db"
    assert hide_secrets("p%40ss-word or p@ss-word", uri) == "*** or ***"


def test_a_library_that_quotes_the_uri_in_its_error_does_not_get_it_out() -> None:
    class Quotes(Tracker):
        def without_secrets(self, text: str) -> str:
            return hide_secrets(text, uri)

        def start_sweep(self, *_: object) -> None:
            raise RuntimeError(f"no connection to {uri}: password '{PASSWORD}' refused\n{uri}")

    uri = f"postgresql://me:{PASSWORD}@host/db"
    tracker = SafeTracker(Quotes())
    tracker.start_sweep("id", "name", {}, {})
    assert PASSWORD not in tracker.warnings[0] and "postgresql://***@host/db" in tracker.warnings[0]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The arguments of a sweep whose stages are all stored."""
    folder = tmp_path_factory.mktemp("secret")
    space = [{"objective": "dpo", "beta": [0.1]}]
    (folder / "s.yaml").write_text(yaml.safe_dump({"name": "s", "recipe": {"iterations": 1}, "space": space}))
    make_up(Store(folder / "store"), build_graph(load_sweep(folder / "s.yaml")).nodes.values())
    return ["sweep", str(folder / "s.yaml"), "--store", str(folder / "store")]


def watched(arguments: list[str], uri: str, end_after_s: float = 250) -> tuple[str, list[str]]:
    """A command's output, and the command lines that named the password while it ran."""
    environment = os.environ | {"MLFLOW_TRACKING_URI": uri, "AIPO_LAB_TRACKING_WAIT_S": "60"}
    command = [sys.executable, "-m", "aipo_lab", *arguments]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    seen: list[str] = []

    def watch() -> None:
        deadline_s = time.monotonic() + end_after_s
        while process.poll() is None:
            seen.extend(line for line in command_lines().values() if PASSWORD in line)
            if time.monotonic() > deadline_s:
                process.terminate()
                deadline_s += 1000
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate(timeout=280)
    watcher.join()
    return output, seen


def files_with_the_password(*folders: Path) -> list[Path]:
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert files
    return [file for file in files if PASSWORD.encode() in file.read_bytes()]


def test_a_sweep_logged_with_a_password_leaves_it_nowhere(sweep: list[str], tmp_path: Path) -> None:
    server = RealServer(tmp_path)
    try:
        uri = server.url.replace("http://", f"http://me:{PASSWORD}@")
        output, seen = watched([*sweep, "--out", str(tmp_path / "out")], uri)
    finally:
        server.kill()
    assert "warning" not in output
    assert (tmp_path / "out" / "tracking.json").is_file()
    assert PASSWORD not in output
    assert seen == []
    assert files_with_the_password(tmp_path) == []


@pytest.mark.parametrize(
    "address",
    [
        f"http://me:{PASSWORD}@127.0.0.1:9",
        f"postgresql://me:{PASSWORD}@127.0.0.1:9/db",
        f"mysql+pymysql://me:{PASSWORD}@127.0.0.1:9/db",
        f"http://me:{PASSWORD}@127.0.0.1:notaport",
        f"wrong://me:{PASSWORD}@127.0.0.1/db",
    ],
)
def test_a_tracking_uri_that_fails_keeps_its_password_to_itself(sweep: list[str], tmp_path: Path, address: str) -> None:
    output, seen = watched([*sweep, "--out", str(tmp_path / "out")], address)
    assert "tracking failed while opening the sweep" in output
    assert "Traceback" not in output
    assert PASSWORD not in output
    assert seen == []
    assert files_with_the_password(tmp_path / "out") == []


def test_the_ui_of_a_database_with_a_password_keeps_it_to_itself(tmp_path: Path) -> None:
    uri = f"postgresql://me:{PASSWORD}@127.0.0.1:9/db"  # MLflow cannot open it, and says so at length
    output, seen = watched(["ui", str(tmp_path), "--port", str(free_port())], uri, end_after_s=20)
    assert "MLflow UI on postgresql://***@127.0.0.1:9/db" in output
    assert PASSWORD not in output
    assert seen == []
