"""A real browser without a window: Chromium, driven by its own protocol (DevTools)."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

from websockets.sync.client import connect

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")

_START: Final = 30.0
_ANSWER: Final = 30.0
_NAP: Final = 0.1  # seconds
_OPTIONS: Final = (
    "--headless=new",
    "--no-sandbox",  # it only shows pages of our own, and may be run by root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-port=0",
)


def find_browser() -> str | None:
    """Where a browser is installed, if one is."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class BrowserFailed(Exception):
    """The browser does not do what it should."""


class Browser:
    """A browser with one page, as a context.

    `errors` are what the page complained of.
    """

    def __init__(self, program: str) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
        options = (*_OPTIONS, f"--user-data-dir={self._home.name}", "about:blank")
        self._process = subprocess.Popen([program, *options], stderr=subprocess.DEVNULL)
        self._number = 0
        self._held = ExitStack()
        self.errors: list[str] = []
        try:
            self._socket = self._held.enter_context(connect(self._find_page(), max_size=None))
            for domain in ("Page", "Runtime", "Log"):
                self._ask(f"{domain}.enable")
        except BaseException:
            self._end()
            raise

    def _find_page(self) -> str:
        """Where the page listens: the browser writes its port into a file."""
        place = Path(self._home.name) / "DevToolsActivePort"
        until = time.monotonic() + _START
        while not place.exists() or place.read_text().count("\n") < 1:
            if self._process.poll() is not None or time.monotonic() > until:
                raise BrowserFailed("the browser does not start")
            time.sleep(_NAP)
        port, path = place.read_text().split()[:2]
        with connect(f"ws://127.0.0.1:{port}{path}") as browser:
            browser.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
            found = re.search(r'"targetId":"(\w+)","type":"page"', str(browser.recv()))
        if found is None:
            raise BrowserFailed("the browser has no page")
        return f"ws://127.0.0.1:{port}/devtools/page/{found[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        self._held.close()
        self._process.terminate()
        try:
            self._process.wait(_ANSWER)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._home.cleanup()

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            told: dict[str, Any] = json.loads(self._socket.recv(_ANSWER))
            if told.get("id") == self._number:
                if "error" in told:
                    raise BrowserFailed(f"{method}: {told['error']['message']}")
                return dict(told["result"])
            self._listen(told)

    def _listen(self, told: dict[str, Any]) -> None:
        parameters = told.get("params", {})
        if told["method"] == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif told["method"] == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(parameters["entry"]["text"])

    def look_like(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        """Have a window of this size, of a phone perhaps, at night perhaps."""
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        """Go to a page, and wait until it is there."""
        self._ask("Page.navigate", url=url)
        self.wait_for(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """What an expression of JavaScript is in the page, as JSON has it."""
        told = self._ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in told:
            raise BrowserFailed(f"{expression}: {told['exceptionDetails']['text']}")
        return told["result"].get("value")

    def wait_for(self, expression: str, timeout: float = 30.0) -> None:
        """Wait until an expression is true in the page."""
        until = time.monotonic() + timeout
        while not self.evaluate(f"Boolean({expression})"):
            if time.monotonic() > until:
                raise BrowserFailed(f"not within {timeout:g} s: {expression}")
            time.sleep(_NAP)

    def picture(self) -> bytes:
        """The whole page as a PNG, as tall as it is."""
        size = self._ask("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        told = self._ask("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(told["data"])
