"""The sandbox bank as a process of its own, and a listener for its callbacks."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from devnet.bank.ibans import sandbox_iban

OUR_IBAN = sandbox_iban(1)
PAYER_IBAN = sandbox_iban(7777)
SECRET = "whsec_" + base64.b64encode(b"a secret that only tests can know").decode()

ROOT = Path(__file__).parent.parent.parent


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class CallbackListener:
    """A bare HTTP server that keeps what it is sent and answers what it is told to."""

    port: int
    status: int = 204
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/callbacks"

    async def wait_for(self, number: int) -> None:
        """Until so many deliveries have arrived; the test's own time limit ends a wait in vain."""
        async with self._news:
            await self._news.wait_for(lambda: len(self.received) >= number)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")[1:-2]
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
        async with self._news:
            self.received.append((headers, body))
            self._news.notify_all()
        writer.write(f"HTTP/1.1 {self.status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()


class BankProcess:
    """`python -m devnet.bank.main`, started, killed and started again on the same state."""

    def __init__(self, home: Path, callback_url: str) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._callback_url = callback_url
        self._process: asyncio.subprocess.Process | None = None
        (home / "secret").write_text(SECRET)

    async def start(self) -> None:
        """Start it and wait until it answers; our account is open then."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "devnet.bank.main"),
            *("--port", str(self.port), "--callback-url", self._callback_url),
            *("--secret-file", str(self.home / "secret"), "--state-dir", str(self.home / "state")),
            *("--settle-ms", "40", "--stall-ms", "5000"),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        async with httpx.AsyncClient(base_url=self.url, timeout=2, trust_env=False) as client:
            while True:
                try:
                    await client.get("/livez")
                    break
                except httpx.HTTPError:
                    assert self._process.returncode is None, "the bank did not start"
                    await asyncio.sleep(0.05)
            await client.post("/sandbox/accounts", json={"iban": OUR_IBAN, "holder": "Custody"})

    async def kill(self) -> None:
        """kill -9, as a machine that loses power."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()

    async def pay_in(self, amount: int, remittance: str) -> dict[str, str]:
        """An outsider pays our account."""
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as client:
            answer = await client.post(
                "/sandbox/incoming",
                json={
                    "account": OUR_IBAN,
                    "amount": str(amount),
                    "remittance": remittance,
                    "debtor_iban": PAYER_IBAN,
                    "debtor_name": "Outsider",
                },
            )
        assert answer.status_code == 201, answer.text
        return dict(answer.json())
