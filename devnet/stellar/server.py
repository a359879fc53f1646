"""HTTP around the network: Stellar RPC at /, some of Horizon at /horizon, friendbot, and controls under /devnet."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import parse_qs

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from devnet.stellar.friendbot import AddressInvalid, AlreadyFunded
from devnet.stellar.horizon import horizon_routes
from devnet.stellar.misbehave import MisbehaviourInvalid
from devnet.stellar.network import NOTICE, LocalNetwork
from devnet.stellar.rpc import INVALID_REQUEST, PARSE_ERROR, RpcError, RpcMethods

FRIENDBOT_POLL_S = 0.02
NOTICE_HEADER = (b"x-stellar-network", NOTICE.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A network that answers over HTTP."""

    url: str
    network: LocalNetwork


class _Notice:
    """Says on every response that this is a development network."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_notice(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], NOTICE_HEADER]
            await send(message)

        await self._app(scope, receive, send_with_notice)


class _Endpoints:
    """The request handlers of one network."""

    def __init__(self, network: LocalNetwork, url: str, *, manual: bool) -> None:
        self._network = network
        self._rpc = RpcMethods(network, f"{url}/friendbot")
        self._manual = manual

    async def rpc(self, request: Request) -> Response:
        latency = self._network.misbehaviour.faults.latency_ms
        if latency:
            await asyncio.sleep(latency / 1000)
        if self._network.out_of_service():
            return JSONResponse({"title": "service unavailable (ordered)"}, status_code=503)
        try:
            call = json.loads(await request.body())
        except ValueError:
            return JSONResponse(_failure(None, PARSE_ERROR, "parse error"))
        if not isinstance(call, dict) or not isinstance(call.get("method"), str):
            return JSONResponse(_failure(None, INVALID_REQUEST, "invalid request"))
        answer = await asyncio.to_thread(self._answer, call)
        if call["method"] == "sendTransaction" and self._network.take_fault("lose_reply_next"):
            return JSONResponse({"title": "gateway timeout (ordered)"}, status_code=504)
        return JSONResponse(answer)

    def _answer(self, call: dict[str, Any]) -> dict[str, Any]:
        call_id, params = call.get("id"), call.get("params")
        if params is not None and not isinstance(params, dict):
            return _failure(call_id, INVALID_REQUEST, "params must be an object")
        try:
            result = self._rpc.call(call["method"], params or {})
        except RpcError as error:
            return _failure(call_id, error.code, error.message)
        return {"jsonrpc": "2.0", "id": call_id, "result": result}

    async def friendbot(self, request: Request) -> Response:
        """Answers once the account exists; a network without a timer closes a ledger for it."""
        address = request.query_params.get("addr")
        if address is None:
            form = parse_qs((await request.body()).decode("utf-8", "replace"))
            address = form.get("addr", [""])[0]
        try:
            raw = self._network.fund(address)
        except (AlreadyFunded, AddressInvalid) as error:
            problem = {"title": "Bad Request", "status": 400, "detail": str(error)}
            return JSONResponse(problem, status_code=400)
        if self._manual:
            await asyncio.to_thread(self._network.close)
        # Polled, not awaited: ledgers close under a thread lock, and blocked worker threads could starve the closer.
        while (tx_hash := self._network.funded_by(raw)) is None:  # noqa: ASYNC110 - see the line above
            await asyncio.sleep(FRIENDBOT_POLL_S)
        return JSONResponse({"successful": True, "hash": tx_hash, "notice": NOTICE})

    async def close(self, _request: Request) -> Response:
        await asyncio.to_thread(self._network.close)
        latest = self._network.latest
        return JSONResponse({"ledger": latest.sequence, "hash": latest.hash.hex()})

    async def misbehave(self, request: Request) -> Response:
        try:
            wanted = json.loads(await request.body())
            if not isinstance(wanted, dict):
                raise MisbehaviourInvalid("the body must be an object of faults")
            faults = self._network.order_faults(wanted)
        except ValueError as error:
            return JSONResponse({"title": "Bad Request", "detail": str(error)}, status_code=400)
        return JSONResponse({"faults": asdict(faults)})

    async def state(self, _request: Request) -> Response:
        return JSONResponse(self._network.describe() | {"manual": self._manual})


def build_app(network: LocalNetwork, url: str, *, manual: bool) -> Starlette:
    """The ASGI application. `url` is where clients reach it; it is named in getNetwork's friendbotUrl."""
    endpoints = _Endpoints(network, url, manual=manual)
    routes = [
        Route("/", endpoints.rpc, methods=["POST"]),
        Route("/friendbot", endpoints.friendbot, methods=["GET", "POST"]),
        Route("/devnet/close", endpoints.close, methods=["POST"]),
        Route("/devnet/misbehave", endpoints.misbehave, methods=["POST"]),
        Route("/devnet/state", endpoints.state, methods=["GET"]),
        Mount("/horizon", routes=horizon_routes(network)),
    ]
    return Starlette(routes=routes, middleware=[Middleware(_Notice)])


def bind(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one. Raises OSError when the port is in use."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(128)
    except OSError:
        sock.close()
        raise
    return sock


def url_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()
    return f"http://{host}:{port}"


def make_server(network: LocalNetwork, sock: socket.socket, *, manual: bool) -> uvicorn.Server:
    app = build_app(network, url_of(sock), manual=manual)
    return uvicorn.Server(
        uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=2)
    )


async def run(
    network: LocalNetwork, server: uvicorn.Server, sock: socket.socket, close_every_s: float | None
) -> None:
    """Serve, and close ledgers on a timer, until the server is told to exit.

    A ledger that cannot be closed (a full disk, say) ends everything: a network that only looks alive is worse.
    """
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve(sockets=[sock]))
        ticking = None if close_every_s is None else tasks.create_task(_tick(network, close_every_s))
        await serving
        if ticking is not None:
            ticking.cancel()


@contextmanager
def serve_in_thread(
    network: LocalNetwork, *, port: int = 0, close_every_s: float | None = None
) -> Iterator[Served]:
    """Serve a network from a thread of this process; without close_every_s ledgers close by call only."""
    sock = bind("127.0.0.1", port)
    server = make_server(network, sock, manual=close_every_s is None)
    thread = threading.Thread(
        target=lambda: asyncio.run(run(network, server, sock, close_every_s)),
        name="devnet-stellar",
        daemon=True,
    )
    thread.start()
    try:
        yield Served(url=url_of(sock), network=network)
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        sock.close()


async def _tick(network: LocalNetwork, period_s: float) -> None:
    """Close on a fixed schedule; a late close does not push the following ones back."""
    loop = asyncio.get_running_loop()
    due = loop.time() + period_s
    while True:
        await asyncio.sleep(max(0.0, due - loop.time()))
        await asyncio.to_thread(network.close)
        due = max(due + period_s, loop.time())


def _failure(call_id: Any, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": call_id, "error": {"code": code, "message": message}}
