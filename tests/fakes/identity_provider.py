"""An identity provider: real keys, a real HTTP endpoint for their public halves, and tokens honest or bent."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import get_default_algorithms

AUDIENCE = "custody"


def jwk_of(algorithm: str, key: Any, kid: str) -> dict[str, Any]:
    """A key's public half as a JWK."""
    made: dict[str, Any] = json.loads(get_default_algorithms()[algorithm].to_jwk(key.public_key()))
    return {**made, "kid": kid, "use": "sig", "alg": algorithm}


def new_key(algorithm: str) -> Any:
    """A fresh key for an algorithm."""
    match algorithm:
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "EdDSA":
            return Ed25519PrivateKey.generate()
        case _:
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass(kw_only=True)
class IdentityProvider:
    """Whoever holds one of these can be anybody."""

    url: str
    keys: dict[str, tuple[str, Any]] = field(default_factory=dict)
    """Name of a key to its algorithm and itself."""
    published: list[dict[str, Any]] = field(default_factory=list)
    fetches: int = 0

    def publish(self, kid: str, algorithm: str) -> None:
        """Make a key and show its public half."""
        key = new_key(algorithm)
        self.keys[kid] = (algorithm, key)
        self.published.append(jwk_of(algorithm, key, kid))

    def token(
        self, subject: str, *, kid: str = "ec", header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """A token that this provider vouches for; a claim given as None is left out."""
        algorithm, key = self.keys[kid]
        return jwt.encode(
            self.claims(subject, **claims), key, algorithm=algorithm, headers={"kid": kid, **(header or {})}
        )

    def claims(self, subject: str, **changed: Any) -> dict[str, Any]:
        """What an honest token says, with these changes."""
        now = int(time.time())
        said = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": f"{subject}-number",
            "preferred_username": subject,
            "iat": now,
            "exp": now + 600,
            "jti": uuid4().hex,
            "realm_access": {"roles": []},
        } | changed
        return {name: value for name, value in said.items() if value is not None}


@contextlib.contextmanager
def running_provider() -> Iterator[IdentityProvider]:
    """A provider that serves its keys at `/jwks`, and forged ones at `/evil`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    provider = IdentityProvider(url=f"http://127.0.0.1:{server.server_address[1]}")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.fetches += 1
            body = json.dumps({"keys": provider.published}).encode()
            self.send_response(200 if self.path == "/jwks" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    server.RequestHandlerClass = Handler
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
