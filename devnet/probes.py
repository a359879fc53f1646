"""Questions that tell whether a server serves: short, over its real door, answered by yes, no or OSError."""

import http.client
import json
import socket
from pathlib import Path

from devnet.ports import HOST
from devnet.processes import Probe

_TIMEOUT_S = 2.0


def http_ok(port: int, path: str) -> Probe:
    """GET answers 200."""

    def probe() -> bool:
        return _request(port, "GET", path, None)[0] == 200

    return probe


def json_rpc_ok(port: int, method: str) -> Probe:
    """A JSON-RPC call of this method has a result."""

    def probe() -> bool:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method})
        status, answer = _request(port, "POST", "/", body)
        return status == 200 and b'"result"' in answer

    return probe


def tcp_says(port: int, question: bytes, answer: bytes) -> Probe:
    """A TCP server answers this question with these first bytes."""

    def probe() -> bool:
        with socket.create_connection((HOST, port), _TIMEOUT_S) as connection:
            connection.settimeout(_TIMEOUT_S)
            connection.sendall(question)
            return connection.recv(64).startswith(answer)

    return probe


def tcp_open(port: int) -> Probe:
    """A TCP server accepts connections."""

    def probe() -> bool:
        with socket.create_connection((HOST, port), _TIMEOUT_S):
            return True

    return probe


def said_something(log: Path) -> Probe:
    """A process without a door of its own has written to its log since now: its imports and configuration held."""
    already = log.stat().st_size if log.exists() else 0

    def probe() -> bool:
        return log.exists() and log.stat().st_size > already

    return probe


def unix_socket_accepts(path: Path) -> Probe:
    """Something accepts connections on this socket file."""

    def probe() -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_TIMEOUT_S)
            connection.connect(str(path))
        return True

    return probe


def _request(port: int, method: str, path: str, body: str | None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=_TIMEOUT_S)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        return response.status, response.read()
    except http.client.HTTPException:
        return 0, b""
    finally:
        connection.close()
