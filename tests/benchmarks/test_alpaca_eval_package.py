"""The package alpaca-eval leaves no trace: in site-packages, home, environment, logging, stderr or on the network."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alpaca_eval_files import annotations_of, install_asset, made_up_df_gamed, outputs_of, published

import aipo_lab.assets.library as assets
from aipo_lab.assets.alpaca_eval import ALPACA_EVAL, REFERENCE_OUTPUTS, REVISION
from aipo_lab.benchmarks.alpaca_eval.package import package_module
from aipo_lab.core.errors import UserError

EVALUATION = """
import json, logging, os, sys, warnings

before = dict(os.environ)
from pathlib import Path
import aipo_lab.assets.library as assets
from aipo_lab.assets.alpaca_eval import ALPACA_EVAL
from aipo_lab.benchmarks.alpaca_eval.benchmark import AlpacaEval
from aipo_lab.benchmarks.alpaca_eval.scoring import score_alpaca_eval
from aipo_lab.judging.calls import JudgeReply, Unanswered

assets._ASSETS[ALPACA_EVAL.name] = ALPACA_EVAL

class Judge:
    name = "gpt-4-1106-preview"

    def ask(self, requests, progress):
        logging.warning("the judge warns")
        replies = [JudgeReply("m", "length", 9, 1, (("m", -0.5), ("M", -1.0))), JudgeReply("x", "length", 9, 1, ())]
        return [[*replies, Unanswered("away")][n % 3] for n in range(len(requests))]

    def discard(self, request, reason):
        pass

annotations, outputs = Path(sys.argv[1]), Path(sys.argv[2])
benchmark = AlpacaEval.load(90)
judged = benchmark.judge("alpaca-7b", benchmark.read_answers(outputs)[1], None, Judge(), lambda *_: None)
scored = score_alpaca_eval(annotations, outputs)

import sklearn
print(json.dumps({
    "scores": sorted(scored.scores), "judged": sorted(judged.scores), "unjudged": len(judged.unjudged),
    "package": sys.modules["alpaca_eval"].__file__,
    "new_environment": sorted(set(os.environ.items()) ^ set(before.items())),
    "level": logging.getLogger().level, "handlers": len(logging.getLogger().handlers),
    "filters": len(logging.getLogger().filters), "routing": sklearn.get_config()["enable_metadata_routing"],
}))
"""


@pytest.fixture
def hub() -> Iterator[tuple[str, list[str], dict[str, bytes]]]:
    """A hub that serves the files it is given and remembers what it was asked for."""
    asked: list[str] = []
    served: dict[str, bytes] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = served.get(self.path)
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"")

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked, served
    server.shutdown()
    thread.join()
    server.server_close()


def test_judging_and_scoring_leave_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: tuple[str, list[str], dict[str, bytes]]
) -> None:
    install_asset(tmp_path / "cache", monkeypatch, df_gamed=made_up_df_gamed(tmp_path / "df_gamed.csv"))
    home = tmp_path / "home"
    home.mkdir()
    kept = ("PATH", "LANG", "AIPO_LAB_CACHE")
    environment = {name: value for name, value in os.environ.items() if name in kept}
    environment |= {"HOME": str(home), "HF_ENDPOINT": hub[0], "PYTHONDONTWRITEBYTECODE": "1"}
    package = Path(package_module("alpaca_eval").__file__).parent
    before = snapshot(package)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "alpaca_eval").symlink_to(package)  # for the package to find a .env file above itself
    (tmp_path / ".env").write_text("OPENAI_API_KEY=key-of-a-file-nobody-named\n")
    environment["PYTHONPATH"] = str(tmp_path / "site")
    command = [sys.executable, "-c", EVALUATION, str(annotations_of("alpaca-7b")), str(outputs_of("alpaca-7b"))]
    done = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["scores"] == ["lc_win_rate", "length_chars", "win_rate"]
    assert report["judged"] == report["scores"]
    assert report["unjudged"] == 60
    assert report["package"].startswith(str(tmp_path))
    assert snapshot(package) == before
    assert list(home.rglob("*")) == []
    assert hub[1] == []
    assert not {name for name, _ in report["new_environment"]} & {"OPENAI_API_KEY", "PYTHON_DOTENV_DISABLED"}
    assert (report["level"], report["handlers"], report["filters"]) == (30, 0, 0)
    assert report["routing"] is False
    assert done.stderr.strip() == "the judge warns"  # others' warnings are not silenced


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def test_the_asset_comes_from_the_pinned_revision_and_another_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: tuple[str, list[str], dict[str, bytes]]
) -> None:
    endpoint, asked, served = hub
    monkeypatch.setenv("AIPO_LAB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setitem(assets._ASSETS, ALPACA_EVAL.name, ALPACA_EVAL)
    address = f"/datasets/tatsu-lab/alpaca_eval/resolve/{REVISION}"
    served[f"{address}/{REFERENCE_OUTPUTS}"] = (published() / "gpt4_1106_preview.json").read_bytes()
    served[f"{address}/df_gamed.csv"] = made_up_df_gamed(tmp_path / "df_gamed.csv").read_bytes()
    with pytest.raises(UserError, match=r"df_gamed\.csv is not the file that was pinned"):
        assets.fetch(ALPACA_EVAL.name)
    assert asked == [f"{address}/{REFERENCE_OUTPUTS}", f"{address}/df_gamed.csv"]  # the first passed its check
    assert not (tmp_path / "assets" / ALPACA_EVAL.name).exists()
