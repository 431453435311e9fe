"""Debian's Chromium, headless, driven through the DevTools protocol; notes what it logs and requests."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from base64 import b64decode
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

Result = TypeVar("Result")

PROGRAM = shutil.which("chromium")
WAIT_S = 15.0
KEY_CODES = {"ArrowDown": 40, "ArrowUp": 38, "ArrowLeft": 37, "ArrowRight": 39, "Enter": 13, "Tab": 9}


class Chromium:
    """A browser with one page, until the `with` block ends; its profile is in `folder`."""

    def __init__(self, folder: Path) -> None:
        assert PROGRAM is not None
        self._folder = folder
        self._log = (folder.parent / f"{folder.name}.log").open("wb")
        self._process = subprocess.Popen(
            [
                PROGRAM,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--no-first-run",
                "--remote-debugging-port=0",
                f"--user-data-dir={folder}",
                "about:blank",
            ],
            stdout=self._log,
            stderr=self._log,
        )
        self._runner = asyncio.Runner()
        self._numbers = 0
        self.problems: list[str] = []
        self.requested: list[str] = []

    def __enter__(self) -> Chromium:
        self._do(self._connect())
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._do(self._socket.close())
        self._do(self._session.close())
        self._runner.close()
        self._process.terminate()
        self._process.wait(WAIT_S)
        self._log.close()

    def _do(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self._runner.run(asyncio.wait_for(work, WAIT_S))

    async def _connect(self) -> None:
        import aiohttp

        written = self._folder / "DevToolsActivePort"
        while not (written.is_file() and written.read_text().count("\n")):
            assert self._process.poll() is None, "chromium ended at once"
            await asyncio.sleep(0.05)
        port = written.read_text().split("\n")[0]
        self._session = aiohttp.ClientSession()
        while True:
            async with self._session.get(f"http://127.0.0.1:{port}/json/list") as response:
                pages = [page for page in await response.json() if page["type"] == "page"]
            if pages:
                break
        self._socket = await self._session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One DevTools command; notes the events that arrive meanwhile."""
        return self._do(self._call(method, parameters))

    async def _call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._numbers += 1
        number = self._numbers
        await self._socket.send_str(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads((await self._socket.receive()).data)
            if message.get("id") == number:
                assert "error" not in message, (method, message)
                return dict(message["result"])
            self._note(message.get("method", ""), message.get("params", {}))

    def _note(self, event: str, parameters: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requested.append(parameters["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(parameters["exceptionDetails"]))
        elif event == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.problems.append(parameters["entry"]["text"])
        elif event == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.problems.append(json.dumps(parameters["args"]))

    def open(self, address: str) -> None:
        """Go to `address` as a fresh page, with nothing kept from the last one."""
        self.call("Page.navigate", url="about:blank")
        self.problems.clear()
        self.requested.clear()
        self.call("Page.navigate", url=address)

    def get(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until a JavaScript expression is true; an exception counts as not yet."""
        ends = time.monotonic() + WAIT_S
        while not self.get(f"(() => {{ try {{ return !!({expression}) }} catch {{ return false }} }})()"):
            assert time.monotonic() < ends, f"never true: {expression}; the page: {self.get('document.body.innerText')}"
            time.sleep(0.02)

    def text(self, selector: str) -> str:
        """The text a person sees in the first element of `selector`."""
        return str(self.get(f"document.querySelector({json.dumps(selector)}).innerText"))

    def texts(self, selector: str) -> list[str]:
        """The same for all elements of `selector`."""
        return list(self.get(f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.innerText)"))

    def click(self, selector: str, number: int = 0) -> None:
        """A real click on the middle of an element."""
        element = f"document.querySelectorAll({json.dumps(selector)})[{number}]"
        box = self.get(
            f"(e => {{ e.scrollIntoView({{block: 'center'}}); const b = e.getBoundingClientRect(); "
            f"return [b.x + b.width / 2, b.y + b.height / 2] }})({element})"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def choose(self, selector: str, value: str) -> None:
        """Choose an option of a select, which must have it."""
        chosen = self.get(
            f"(e => {{ e.focus(); e.value = {json.dumps(value)}; const chosen = e.value; "
            "e.dispatchEvent(new Event('input', {bubbles: true})); "
            "e.dispatchEvent(new Event('change', {bubbles: true})); e.blur(); return chosen })"
            f"(document.querySelector({json.dumps(selector)}))"
        )
        assert chosen == value, f"{selector} has no option {value}"

    def press(self, key: str) -> None:
        """Press and release a key."""
        code = KEY_CODES.get(key, ord(key[0].upper()))
        typed = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **typed)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)

    def resize(self, width: int, height: int) -> None:
        """The size of the page in pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def prefer(self, scheme: str) -> None:
        """`light` or `dark`."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path: Path) -> None:
        """Save what is visible as PNG."""
        path.write_bytes(b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
