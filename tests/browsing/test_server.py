"""The server as a client sees it: what it serves, to whom, and what it refuses."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from aipo_lab.browsing.server import serve, serving
from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import write_jsonl

from .entry_files import all_entries, micro_entries, turn, write_entry

Reply = tuple[int, dict[str, str], str]


def get(address: str, path: str, host: str | None = None, method: str = "GET") -> Reply:
    """Status, headers (names in lower case) and body; the path is sent as it is."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)
    connection.request(method, path, headers={} if host is None else {"Host": host})
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, body


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(all_entries(tmp_path_factory.mktemp("entries")), "a <b>sweep</b> & more") as address:
        yield address


def test_the_index_lists_entries_with_numbers_and_counts(address: str) -> None:
    index = json.loads(get(address, "/api/index")[2])
    assert index["benchmarks"] == ["micro", "mt_bench", "alpaca_eval"]
    assert [(e["number"], e["label"], e["answers"], e["judged"]) for e in index["entries"]] == [
        (0, "base model", 4, True),
        (1, "dpo-b0.1, iteration 1", 4, True),
        (2, "base model", 2, True),
        (3, "aipo, iteration 2", 2, True),
        (4, "from files", 2, True),
        (5, "unjudged", 1, False),
    ]


def test_an_entry_is_served_by_its_number(address: str) -> None:
    status, headers, body = get(address, "/api/entry/1")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert [row["turns"][0]["tokens"] for row in json.loads(body)["questions"]] == [7, 1, 6, 30]


@pytest.mark.parametrize(
    "number", ["6", "-1", "+1", "1.0", "0x1", "", "%D9%A3", "1/..", "1e0", "9" * 5000, "nan", "%31"]
)
def test_other_numbers_are_not_found(address: str, number: str) -> None:
    assert get(address, f"/api/entry/{number}")[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        "/../server.py",
        "/page/../../server.py",
        "/..%2fserver.py",
        "/%2e%2e/server.py",
        "//etc/passwd",
        "/etc/passwd",
        "/api/entry/../../answers.jsonl",
        "/index.html/../__init__.py",
        "/browse.js/",
        "/server.py",
        "http://127.0.0.1/etc/passwd",
        "*",
    ],
)
def test_paths_lead_nowhere_else(address: str, path: str) -> None:
    status, _, body = get(address, path)
    assert (status, json.loads(body)) == (404, {"error": "there is nothing here"})


@pytest.mark.parametrize("path", ["/", "/browse.css", "/browse.js", "/view.js", "/questions.js", "/api/index", "/x"])
def test_every_reply_has_the_strict_policy(address: str, path: str) -> None:
    headers = get(address, path)[1]
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["img-src"] == "'self' data:"
    assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil:80", "", "127.0.0.1:80@evil"]
)
@pytest.mark.parametrize("path", ["/", "/api/index", "/api/entry/0"])
def test_another_host_name_is_refused(address: str, host: str, path: str) -> None:
    status, _, body = get(address, path, host)
    assert status == 403 and "base model" not in body


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1"])
def test_names_of_this_machine_are_accepted(address: str, host: str) -> None:
    assert get(address, "/api/index", host)[0] == 200


def test_only_get_is_answered(address: str) -> None:
    assert {method: get(address, "/api/index", method=method)[0] for method in ("POST", "PUT", "DELETE")} == {
        "POST": 501,
        "PUT": 501,
        "DELETE": 501,
    }


def test_the_title_is_escaped(address: str) -> None:
    page = get(address, "/")[2]
    assert page.count("a &lt;b&gt;sweep&lt;/b&gt; &amp; more") == 2 and "<b>" not in page


def test_unknown_fields_stay_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-planted-51c07d"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    answers = [{"id": "0", **turn("p", "t", 1), "headers": {"Authorization": key}}]
    verdict = {"name": "game 1", "verdict": "A=B", "text": "", "request": key}
    judgments = [{"id": "0", "preference": 0.5, "score": None, "verdicts": [verdict], "api_key": key}]
    with serving([write_entry(tmp_path, "arena_hard", "one", answers, judgments)], "keys") as address:
        replies = [get(address, path)[2] for path in ("/", "/browse.js", "/api/index", "/api/entry/0")]
    assert "A=B" in replies[-1] and key not in "".join(replies)


def test_files_that_break_while_it_runs_are_reported(tmp_path: Path) -> None:
    entries = micro_entries(tmp_path)
    with serving(entries, "t") as address:
        entries[0].answers.write_text("{")
        status, _, body = get(address, "/api/entry/0")
        assert status == 500 and "answers.jsonl, line 1: not JSON" in json.loads(body)["error"]
        entries[0].answers.unlink()
        assert json.loads(get(address, "/api/index")[2])["entries"][0]["answers"] is None
        assert "No such file" in json.loads(get(address, "/api/entry/0")[2])["error"]
        write_jsonl(entries[0].answers, [{"id": "0", **turn("p", "again", 1)}])
        assert get(address, "/api/entry/0")[0] == 200


def test_serving_prints_its_address_and_ends_with_ctrl_c() -> None:
    program = (
        "from pathlib import Path; from aipo_lab.browsing.entries import Entry; "
        "from aipo_lab.browsing.server import serve; "
        "serve([Entry('micro', 'one', Path('gone'), None)], 'one', 0, open_browser=False)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        found = re.fullmatch(r"one: (http://127\.0\.0\.1:\d+/) \(Ctrl-C stops it\)\n", process.stdout.readline())
        assert found and json.loads(get(found[1], "/api/index")[2])["benchmarks"] == ["micro"]
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, complaints) == (0, "")


def test_it_listens_to_this_machine_only_and_ends_with_the_block(tmp_path: Path) -> None:
    with serving(micro_entries(tmp_path), "t") as address:
        assert urlsplit(address).hostname == "127.0.0.1"
        with pytest.raises(UserError, match=r"cannot use port .* choose another with --port"):
            serve(micro_entries(tmp_path), "t", urlsplit(address).port or 0, open_browser=False)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", urlsplit(address).port or 0), timeout=5)
