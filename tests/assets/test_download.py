"""Pinned downloads over real HTTP: right files arrive, wrong and unreachable ones are named."""

from __future__ import annotations

import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from aipo_lab.assets import download
from aipo_lab.assets.download import PinnedFile, fetch_files
from aipo_lab.core.errors import UserError

CONTENT = {"/question.jsonl": b'{"question_id": 81}\n', "/deep/answer.jsonl": bytes(range(256)) * 100}


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; `/cut` breaks off, `/silent` says nothing until the client leaves."""

    def do_GET(self) -> None:
        self.server.seen.append(self.path)  # type: ignore[attr-defined]
        path = "/" + self.path.split("/", 3)[3] if self.path.startswith("http://") else self.path
        if path == "/silent":
            self.server.release.wait(10)  # type: ignore[attr-defined]
            return
        if path != "/cut" and path not in CONTENT:
            self.send_error(404)
            return
        body = CONTENT.get(path, b"half")
        self.send_response(200)
        self.send_header("Content-Length", str(1000 if path == "/cut" else len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[http.server.ThreadingHTTPServer]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.seen = []  # type: ignore[attr-defined]
    server.release = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.release.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join(5)


def _url(server: http.server.ThreadingHTTPServer, path: str) -> str:
    return f"http://127.0.0.1:{server.server_port}{path}"


def _pinned(url: str, content: bytes = b"", name: str = "file") -> PinnedFile:
    return PinnedFile(name, url, hashlib.sha256(content).hexdigest())


def test_files_arrive_byte_for_byte_with_their_origin(server: http.server.ThreadingHTTPServer, tmp_path: Path) -> None:
    files = [_pinned(_url(server, path), content, path[1:]) for path, content in CONTENT.items()]
    messages: list[str] = []
    origin = fetch_files(files, tmp_path, messages.append)
    for path, content in CONTENT.items():
        assert (tmp_path / path[1:]).read_bytes() == content
    assert origin == {"files": {file.name: {"url": file.url, "sha256": file.sha256} for file in files}}
    assert messages == ["downloading question.jsonl (1 of 2)", "downloading deep/answer.jsonl (2 of 2)"]


def test_another_content_than_the_pinned_one_is_refused(
    server: http.server.ThreadingHTTPServer, tmp_path: Path
) -> None:
    url = _url(server, "/question.jsonl")
    with pytest.raises(UserError, match="not the file that was pinned") as caught:
        fetch_files([_pinned(url, b"something else")], tmp_path, print)
    assert url in str(caught.value)


@pytest.mark.parametrize(
    ("path", "reason"), [("/absent", "HTTP 404"), ("/cut", "IncompleteRead"), ("/silent", "timed out")]
)
def test_a_failed_download_names_address_reason_and_next_step(
    server: http.server.ThreadingHTTPServer, tmp_path: Path, path: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUT_S", 0.5)
    url = _url(server, path)
    with pytest.raises(UserError, match=reason) as caught:
        fetch_files([_pinned(url, b"half")], tmp_path, print)
    assert url in str(caught.value)
    assert "run the command again" in str(caught.value)


def test_an_unreachable_server_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(UserError, match=rf"127\.0\.0\.1:{port}.*refused"):
        fetch_files([_pinned(f"http://127.0.0.1:{port}/x")], tmp_path, print)


def test_the_proxy_of_the_environment_is_used(
    server: http.server.ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", _url(server, ""))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    url = "http://files.invalid/question.jsonl"
    fetch_files([_pinned(url, CONTENT["/question.jsonl"])], tmp_path, print)
    assert server.seen == [url]  # type: ignore[attr-defined]
