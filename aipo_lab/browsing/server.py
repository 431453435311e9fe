"""Serves the page that shows answers side by side, and its data, to this machine only.

Routes: the files of `page/`, `/api/index` (what there is) and `/api/entry/<number>` (all rows of one entry, read when
asked for). Nothing else can be reached: requests choose among these, they never name a path.
"""

from __future__ import annotations

import html
import json
import re
import threading
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from typing_extensions import override

from aipo_lab.browsing.answers import count_answers, read_questions
from aipo_lab.browsing.entries import Entry
from aipo_lab.core.errors import UserError

HOST = "127.0.0.1"
POLL_S = 0.1  # how soon the server notices that it should end
ALLOWED_HOST = re.compile(r"(127\.0\.0\.1|localhost)(:[0-9]+)?", re.IGNORECASE)
ENTRY_ROUTE = re.compile(r"/api/entry/([0-9]{1,9})")
PAGE = Path(__file__).parent / "page"
CONTENT_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
TITLE_MARK = "<!--title-->"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def serve(entries: Sequence[Entry], title: str, port: int, open_browser: bool, notes: Sequence[str] = ()) -> None:
    """Serve until Ctrl-C; prints the address. Port 0 takes a free one. `notes` are said on the page.

    Raises `UserError` if the port is taken.
    """
    with suppress(KeyboardInterrupt), serving(entries, title, port, notes) as address:
        print(f"{title}: {address} (Ctrl-C stops it)", flush=True)
        if open_browser:
            webbrowser.open(address)
        threading.Event().wait()


@contextmanager
def serving(entries: Sequence[Entry], title: str, port: int = 0, notes: Sequence[str] = ()) -> Iterator[str]:
    """Serve in the background while the block runs; gives the address."""
    names = [(entry.benchmark, entry.label) for entry in entries]
    assert names and len(set(names)) == len(names), "there must be entries, with unique labels within a benchmark"
    try:
        server = ThreadingHTTPServer((HOST, port), partial(_Handler, _Site(entries, title, notes)))
    except OSError as error:
        raise UserError(
            f"cannot use port {port}: {error.strerror}; choose another with --port (0: any free one)"
        ) from None
    thread = threading.Thread(target=server.serve_forever, args=(POLL_S,), daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Site:
    """What is served: the page with its title filled in, and the entries."""

    def __init__(self, entries: Sequence[Entry], title: str, notes: Sequence[str] = ()) -> None:
        self.entries = entries
        self.notes = notes
        found = [path for path in PAGE.rglob("*") if path.suffix in CONTENT_TYPES]
        self.files = {f"/{path.relative_to(PAGE).as_posix()}": path.read_bytes() for path in found}
        index = self.files.pop("/index.html").decode()
        self.files["/"] = index.replace(TITLE_MARK, html.escape(title)).encode()

    def index(self) -> dict[str, Any]:
        """The benchmarks in order, and every entry with its number and how many answers it has."""
        return {
            "benchmarks": list(dict.fromkeys(entry.benchmark for entry in self.entries)),
            "entries": [
                {
                    "number": number,
                    "benchmark": entry.benchmark,
                    "label": entry.label,
                    "model": entry.model or entry.label,
                    "iteration": entry.iteration,
                    "judged": entry.judgments is not None,
                    "answers": count_answers(entry),
                }
                for number, entry in enumerate(self.entries)
            ],
            "notes": list(self.notes),
        }


class _Handler(BaseHTTPRequestHandler):
    """Answers one request: connections are not kept, so that none outlives the server."""

    def __init__(self, site: _Site, *arguments: Any) -> None:
        self.site = site
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Answer a request, if it is addressed to this machine: another name in `Host` is DNS rebinding."""
        if ALLOWED_HOST.fullmatch(self.headers.get("Host", "")) is None:
            self._send_json(HTTPStatus.FORBIDDEN, {"error": f"this server answers to {HOST} and localhost only"})
            return
        path = self.path.partition("?")[0]
        entry = ENTRY_ROUTE.fullmatch(path)
        if path in self.site.files:
            content_type = CONTENT_TYPES[Path(path).suffix or ".html"]
            self._send(HTTPStatus.OK, f"{content_type}; charset=utf-8", self.site.files[path])
        elif path == "/api/index":
            self._send_json(HTTPStatus.OK, self.site.index())
        elif entry is not None and int(entry[1]) < len(self.site.entries):
            self._send_entry(self.site.entries[int(entry[1])])
        else:
            self._send_json(HTTPStatus.NOT_FOUND, {"error": "there is nothing here"})

    def _send_entry(self, entry: Entry) -> None:
        try:
            self._send_json(HTTPStatus.OK, {"questions": read_questions(entry)})
        except UserError as error:
            self._send_json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": str(error)})

    def _send_json(self, status: HTTPStatus, value: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(value, allow_nan=False).encode())

    def _send(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        with suppress(ConnectionError):  # the page has moved on and closed the connection
            self.send_response(status)
            for name, value in HEADERS.items():
                self.send_header(name, value)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    @override
    def log_message(self, *_: Any) -> None:
        """Nothing: the terminal stays readable."""
