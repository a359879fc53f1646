"""A load generator that costs little: raw HTTP/1.1 over loopback, a request in flight per connection, in a process of its own.

`python -m bench.http_load` reads a Spec as JSON from standard input and writes what it measured as JSON. Client libraries would
need more processor time for a request than the server that is measured.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from uuid import uuid4

from bench.cells import Cell

KEY = b"@@KEY@@"
"""Replaced in every request by text that no other request has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What is to be asked, and for how long."""

    port: int
    connections: int
    seconds: float
    requests: list[str]
    """Whole requests, headers and body; taken in turn."""
    status: int
    """What each must be answered with."""
    core: int | None
    """The core to stay on; None for any."""


class _Line(asyncio.Protocol):
    """One connection that asks again as soon as it is answered."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._got = b""
        self._needed = 0
        self._transport: asyncio.Transport | None = None
        self._asked = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._got += data
        if not self._needed:
            head, found, _ = self._got.partition(b"\r\n\r\n")
            if not found:
                return
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            self._needed = len(head) + 4 + int(length)
        if len(self._got) < self._needed:
            return
        self._run.answered(self._got, (time.perf_counter() - self._asked) * 1e6)
        self._got, self._needed = b"", 0
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._run.closed()

    def _ask(self) -> None:
        assert self._transport is not None
        request = self._run.next_request()
        if request is None:
            self._transport.close()
            return
        self._asked = time.perf_counter()
        self._transport.write(request)


class _Run:
    """All connections of one measurement."""

    def __init__(self, spec: Spec) -> None:
        self._requests = itertools.cycle([each.encode() for each in spec.requests])
        self._expected = f"HTTP/1.1 {spec.status} ".encode()
        self._open = spec.connections
        self._mark = uuid4().hex.encode()
        self._number = 0
        self._end = time.perf_counter() + spec.seconds
        self.ended = asyncio.get_running_loop().create_future()
        self.latencies_us: list[float] = []
        self.wrong: list[str] = []

    def next_request(self) -> bytes | None:
        if time.perf_counter() >= self._end or self.wrong:
            return None
        self._number += 1
        return next(self._requests).replace(KEY, b"%s-%d" % (self._mark, self._number))

    def answered(self, answer: bytes, latency_us: float) -> None:
        self.latencies_us.append(latency_us)
        if not answer.startswith(self._expected):
            self.wrong.append(answer[:2000].decode("utf-8", "replace"))

    def closed(self) -> None:
        self._open -= 1
        if self._open == 0 and not self.ended.done():
            self.ended.set_result(None)


async def generate(spec: Spec) -> dict[str, object]:
    """Ask until the time is over."""
    loop = asyncio.get_running_loop()
    started, cpu = time.perf_counter(), time.process_time()
    run = _Run(spec)
    for _ in range(spec.connections):
        await loop.create_connection(lambda: _Line(run), "127.0.0.1", spec.port)
    await run.ended
    return {
        "seconds": time.perf_counter() - started,
        "cpu_s": time.process_time() - cpu,
        "latencies_us": run.latencies_us,
        "wrong": run.wrong[:1],
    }


def load(spec: Spec) -> Cell:
    """Run the generator as a process. Raises RuntimeError when an answer was not the expected one."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.http_load"],
        input=json.dumps(asdict(spec)),
        capture_output=True,
        text=True,
        timeout=spec.seconds + 60,
        check=True,
    )
    found = json.loads(done.stdout)
    if found["wrong"] or not found["latencies_us"]:
        raise RuntimeError(f"an answer was not the expected one: {found['wrong']}")
    return Cell(
        done=len(found["latencies_us"]),
        seconds=found["seconds"],
        server_cpu_s=0.0,
        client_cpu_s=found["cpu_s"],
        latencies_us=found["latencies_us"],
    )


def request(method: str, path: str, headers: dict[str, str], body: str = "") -> str:
    """The text of one request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body.encode())}"]
    return "\r\n".join([*lines, "", body])


def main() -> int:
    """Entry of the generator's process."""
    spec = Spec(**json.load(sys.stdin))
    if spec.core is not None:
        os.sched_setaffinity(0, {spec.core})
    json.dump(asyncio.run(generate(spec)), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
