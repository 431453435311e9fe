"""The judge client against the ideal: calls per second from a server that takes 50 ms for each.

    python perf/judging.py [--calls 3200] [--concurrency 32] [--latency-ms 50] [--rounds 3] [--baseline]

The server runs in a process of its own and is as plain as can be, so that the client is what is measured. The ideal is
concurrency / latency. Every round asks all calls anew and stores each reply in a fresh call store on disk. Stores are
removed at the end only: on ext4 files are slow to make for some seconds after thousands were deleted.
`--baseline` also measures a bare aiohttp loop that stores nothing: what the machine leaves of the ideal.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import selectors
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

REPLY = "Assistant A follows the instruction more closely. " * 20 + "My final verdict is [[A>B]]"
QUESTION = "Which of the two answers is better? " * 150


def main() -> None:
    arguments = parse_arguments()
    if arguments.serve:
        # epoll rounds timers up to whole milliseconds, select does not
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
            runner.run(serve(arguments.latency_ms / 1e3))
    else:
        measure(arguments)


def measure(arguments: argparse.Namespace) -> None:
    ideal = arguments.concurrency / (arguments.latency_ms / 1e3)
    command = [sys.executable, __file__, "--serve", "--latency-ms", str(arguments.latency_ms)]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
    ):
        try:
            assert server.stdout is not None
            base_url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
            rates = []
            for number in range(arguments.rounds):
                if arguments.baseline:
                    rate = asyncio.run(bare_rate(base_url, arguments.calls, arguments.concurrency))
                    print(f"round {number + 1} bare aiohttp: {rate:.0f} calls/s, {rate / ideal:.3f} of the ideal")
                rate, cpu_ms = judge_rate(base_url, Path(folder) / str(number), arguments)
                rates.append(rate)
                print(f"round {number + 1} judge: {rate:.0f} calls/s, {cpu_ms:.2f} ms of CPU per call", flush=True)
        finally:
            server.kill()
    print(f"ideal {ideal:.0f} calls/s, median {median(rates):.0f} calls/s")
    print(f"ratio throughput = {median(rates) / ideal:.3f}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=3200)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--latency-ms", type=float, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--baseline", action="store_true", help="measure a bare aiohttp loop too")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def judge_rate(base_url: str, folder: Path, arguments: argparse.Namespace) -> tuple[float, float]:
    """Calls per second and CPU milliseconds per call of the judge client, from asking to all replies stored."""
    from aipo_lab.judging.calls import JudgeReply, JudgeRequest, Message
    from aipo_lab.judging.opening import open_judge
    from aipo_lab.judging.settings import JudgeSettings

    requests = [
        JudgeRequest((Message("system", "Judge."), Message("user", f"{number} {QUESTION}")), 1024, 0.0)
        for number in range(arguments.calls)
    ]
    settings = JudgeSettings(model="gpt-4-1106-preview", base_url=base_url, concurrency=arguments.concurrency)
    judge = open_judge(settings, folder)
    judge.ask([JudgeRequest((Message("user", "warm up"),), 1, 0.0)], lambda *_: None)
    started_s, cpu_s = time.perf_counter(), time.process_time()
    outcomes = judge.ask(requests, lambda *_: None)
    elapsed_s, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_s
    assert all(isinstance(outcome, JudgeReply) for outcome in outcomes)
    assert len(list(folder.rglob("*.json"))) == arguments.calls + 1
    return arguments.calls / elapsed_s, cpu_s / arguments.calls * 1e3


async def bare_rate(base_url: str, calls: int, concurrency: int) -> float:
    """Calls per second of aiohttp alone."""
    from aiohttp import ClientSession

    body = {"model": "m", "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 1024}
    left = iter(range(calls))

    async def work(session: ClientSession) -> None:
        for _ in left:
            async with session.post(f"{base_url}/chat/completions", json=body) as response:
                json.loads(await response.read())

    async with ClientSession() as session:
        started_s = time.perf_counter()
        await asyncio.gather(*(work(session) for _ in range(concurrency)))
        return calls / (time.perf_counter() - started_s)


async def serve(latency_s: float) -> None:
    """Answer every request on a free port of 127.0.0.1 `latency_s` after it arrived; the port goes to stdout."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": REPLY}}
    body = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 1200, "completion_tokens": 210}}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    class Answering(asyncio.Protocol):
        """One connection; the client sends the next request only after the answer to the last."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport
            self.received = b""

        def data_received(self, data: bytes) -> None:
            self.received += data
            headers, separator, content = self.received.partition(b"\r\n\r\n")
            if separator and len(content) >= int(headers.lower().split(b"content-length:")[1].split(b"\r\n")[0]):
                self.received = b""
                asyncio.get_running_loop().call_later(latency_s, self.transport.write, head + body)

    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    main()
