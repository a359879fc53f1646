"""Chromium under the DevTools protocol, spoken over its pipe: a real browser with a virtual authenticator, without a driver."""

import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
TIMEOUT_S = 30.0


def find_browser() -> str | None:
    """Return the browser on this machine."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One headless browser with one page. Blocking; close it."""

    def __init__(self, program: str, profile: Path) -> None:
        reads, self._writer = os.pipe()
        self._reader, writes = os.pipe()
        flags = ["--headless=new", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        flags += ["--remote-debugging-pipe", f"--user-data-dir={profile}", "--disable-dev-shm-usage"]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")
        # The browser talks on descriptors 3 and 4. Ours may have any number, those two included, so they move away first.
        script = f"import fcntl, os, sys; r, w = (fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in ({reads}, {writes}))"
        script += "; os.dup2(r, 3); os.dup2(w, 4); os.execv(sys.argv[1], sys.argv[1:])"
        self._process = subprocess.Popen(
            [sys.executable, "-c", script, program, *flags, "about:blank"],
            pass_fds=(reads, writes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(reads)
        os.close(writes)
        self._pending = b""
        self._last = 0
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def call(self, method: str, **params: object) -> dict[str, Any]:
        """Carry out one command; raises AssertionError when the browser refuses it and TimeoutError when it is silent."""
        self._last += 1
        command: dict[str, object] = {"id": self._last, "method": method, "params": params}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._writer, json.dumps(command).encode() + b"\0")
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            message = self._receive(deadline)
            if message.get("id") == self._last:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression in the page, as if a person had acted."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, script: str) -> Any:
        """Return the expression's value once it is truthy."""
        deadline = time.monotonic() + TIMEOUT_S
        while not (value := self.evaluate(script)):
            if time.monotonic() > deadline:
                raise TimeoutError(script)
            time.sleep(0.05)
        return value

    def open(self, url: str) -> None:
        """Go to a page and wait until it is complete."""
        self.call("Page.navigate", url=url)
        self.wait_for(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def add_authenticator(self, **options: object) -> str:
        """Plug in a virtual authenticator that has verified its person; returns its id."""
        self.call("WebAuthn.enable", enableUI=False)
        honest = {
            "protocol": "ctap2", "ctap2Version": "ctap2_1", "transport": "internal", "hasResidentKey": True,
            "hasUserVerification": True, "isUserVerified": True, "automaticPresenceSimulation": True,
        }  # fmt: skip
        added = self.call("WebAuthn.addVirtualAuthenticator", options=honest | options)
        return str(added["authenticatorId"])

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._reader)
        os.close(self._writer)

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._pending:
            ready, _, _ = select.select([self._reader], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(self._reader, 65_536) if ready else b""
            if not chunk:
                raise TimeoutError("the browser is silent")
            self._pending += chunk
        whole, _, self._pending = self._pending.partition(b"\0")
        message: dict[str, Any] = json.loads(whole)
        return message
