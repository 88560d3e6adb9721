"""A headless Chromium over a pipe: what a page asks for, what it complains about, and what it looks like."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# No call takes so long that still comes to an end.
_PATIENCE_S = 180.0
_PAUSE_S = 0.05

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

_KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), "Space": (32, " ")}
_ATTACH = {"autoAttach": True, "waitForDebuggerOnStart": True, "flatten": True}
_SOFTWARE_GPU = (
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-features=Vulkan",
    "--use-vulkan=swiftshader",
)

# What the protocol says while a page is replaced by another.
_GONE = ("context was destroyed", "navigated or closed", "Cannot find context", "context with specified id")


class GoneError(RuntimeError):
    """The page that was asked is being replaced by another."""


def find() -> str | None:
    """The browser's path; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Chromium:
    """One tab, driven by the DevTools protocol.

    Attributes:
        requests: Addresses that the page and its workers asked for since the last ``open``.
        complaints: What the console got since then: errors and warnings of page, workers, network and policies.
        workers: Workers that were started since then: each one's kind, as the protocol calls it, and its name.
    """

    def __init__(self, write: int, read: int) -> None:
        self._out, self._in, self._rest = write, read, b""
        self._count = 0
        self._session: str | None = None
        self._loaded = False
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.workers: list[tuple[str, str]] = []
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")
        self._ask("Target.setAutoAttach", **_ATTACH)

    def open(
        self,
        place: Path | str,
        *,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        scale: float = 1,
    ) -> None:
        """Load a file as a browser does that opens it, or an address, and wait until it has.

        Args:
            place: A file, or an address.
            width: Of the screen in CSS pixels.
            height: Likewise.
            dark: Whether the user likes it dark.
            scale: Pixels of the screen to one of CSS.
        """
        self.requests.clear()
        self.complaints.clear()
        self.workers.clear()
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 500,
        )
        self.prefer(dark=dark)
        self._loaded = False
        self._ask("Page.navigate", url=place if isinstance(place, str) else place.resolve().as_uri())
        while not self._loaded:
            self._note(self._receive())

    def prefer(self, *, dark: bool = False, still: bool = False) -> None:
        """Tell pages whether the user likes it dark, and nothing to move."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        motion = {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme, motion])

    def wait_for(self, expression: str, seconds: float) -> None:
        """Wait until a JavaScript expression is true, over reloads of the page too.

        Raises:
            TimeoutError: If it is not by then.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                if self.evaluate(expression):
                    return
            except GoneError:
                pass
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds:g} s: {expression}")
            time.sleep(_PAUSE_S)

    def choose(self, selector: str, files: Sequence[Path]) -> None:
        """Choose files in an input, as a user does."""
        root = self._ask("DOM.getDocument")["root"]["nodeId"]
        node = self._ask("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self._ask("DOM.setFileInputFiles", nodeId=node, files=[str(file.resolve()) for file in files])

    def press(self, key: str) -> None:
        """Press and let go one of the keys ``Tab``, ``Enter`` and ``Space``."""
        code, text = _KEYS[key]
        facts = {"key": text if text == " " else key, "code": key, "windowsVirtualKeyCode": code}
        self._ask("Input.dispatchKeyEvent", type="keyDown", text=text, **facts)
        self._ask("Input.dispatchKeyEvent", type="keyUp", **facts)

    def before_pages(self, script: str) -> None:
        """Run a script in every page before the page's own."""
        self._ask("Page.addScriptToEvaluateOnNewDocument", source=script)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, waited for."""
        answer = self._ask(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def screenshot(self, path: Path, clip: tuple[float, float, float, float] | None = None) -> None:
        """Save the page as a PNG, or of it a part: left, top, width and height in CSS pixels."""
        part = (
            {}
            if clip is None
            else {"clip": dict(zip(("x", "y", "width", "height", "scale"), (*clip, 1), strict=True))}
        )
        shot = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, **part)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _ask(self, method: str, **parameters: Any) -> Any:
        own = self._send(method, self._session, parameters)
        while True:
            answer = self._receive()
            if answer.get("id") == own:
                if "error" in answer:
                    reason = f"{method}: {answer['error']}"
                    gone = any(words in answer["error"]["message"] for words in _GONE)
                    raise GoneError(reason) if gone else RuntimeError(reason)
                return answer["result"]
            self._note(answer)

    def _send(self, method: str, session: str | None, parameters: dict[str, Any]) -> int:
        """Send a command, whose answer has the number that is returned."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        return self._count

    def _receive(self) -> Any:
        while b"\0" not in self._rest:
            if not select.select([self._in], [], [], _PATIENCE_S)[0]:
                raise RuntimeError("the browser does not answer")
            data = os.read(self._in, 1 << 20)
            if not data:
                raise RuntimeError("the browser is gone")
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _note(self, event: Any) -> None:
        name, facts = event.get("method"), event.get("params", {})
        if name == "Page.loadEventFired":
            self._loaded = True
        elif name == "Target.attachedToTarget":
            self._follow(facts["sessionId"], facts["targetInfo"])
        elif name == "Network.requestWillBeSent":
            self.requests.append(facts["request"]["url"])
        elif name == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(facts["exceptionDetails"]))
        elif name == "Runtime.consoleAPICalled" and facts["type"] in {"error", "warning", "assert"}:
            self.complaints.append(json.dumps(facts["args"]))
        elif name == "Log.entryAdded" and facts["entry"]["level"] in {"error", "warning"}:
            self.complaints.append(facts["entry"]["text"])

    def _follow(self, session: str, target: dict[str, Any]) -> None:
        """Listen to a worker, which waits until then."""
        self.workers.append((target["type"], target["title"]))
        for domain in ("Runtime", "Log", "Network"):
            self._send(f"{domain}.enable", session, {})
        self._send("Target.setAutoAttach", session, _ATTACH)
        self._send("Runtime.runIfWaitingForDebugger", session, {})


@contextmanager
def chromium(*, gpu: bool = False) -> Iterator[Chromium]:
    """A browser with a profile of its own, which goes with it.

    Args:
        gpu: Whether pages may use WebGPU, computed in software where there is no graphics processor.

    Raises:
        RuntimeError: Where there is no Chromium.
    """
    program = find()
    if program is None:
        raise RuntimeError("no Chromium is installed")
    their_in, our_out = os.pipe()
    our_in, their_out = os.pipe()

    def wire() -> None:
        # The protocol is read from 3 and written to 4; either may be in the way of the other.
        first, second = os.dup(their_in), os.dup(their_out)
        os.dup2(first, 3)
        os.dup2(second, 4)

    # The browser's last processes may still write while the folder goes.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = (
            "--headless",
            *(_SOFTWARE_GPU if gpu else ("--disable-gpu",)),
            "--no-sandbox",
            "--hide-scrollbars",
            "--remote-debugging-pipe",
        )
        quiet = (
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-dev-shm-usage",
        )
        process = subprocess.Popen(
            [program, *flags, *quiet, f"--user-data-dir={profile}"],
            close_fds=False,
            preexec_fn=wire,  # noqa: PLW1509
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for handle in (their_in, their_out):
            os.close(handle)
        try:
            yield Chromium(our_out, our_in)
        finally:
            process.kill()
            process.wait()
            for handle in (our_out, our_in):
                os.close(handle)
