"""The signer's own decisions in the test's process: real policy, real XDR, real signatures, keys in memory instead of a token.

What it leaves out is the transport and the HSM; those have tests of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from custody.signing.client import SignerClient
from signer.answers import answer
from signer.protocol.messages import Refused, Response, load_request
from signer.refusal import Refusal
from tests.fakes.faults import Faults
from tests.fakes.signer_desk import Desk
from tests.fakes.signer_hsm import FakeToken

_ROLES = frozenset({"requester", "operator"})


class SignerAtHand(SignerClient):
    """A client whose signer is one call away. Passes the points `before sign` and `after sign`."""

    def __init__(
        self, directory: Path, policy: dict[str, object], faults: Faults, unix_time: Callable[[], int]
    ) -> None:
        super().__init__("none")
        self._unix_time = unix_time
        self._token = FakeToken(now=unix_time())
        self._decider = Desk(directory, self._token, policy).start()
        self._faults = faults

    async def _exchange(self, body: bytes) -> Response:
        request = load_request(body)
        self._token.now = self._unix_time()
        signs = type(request).__name__ == "Sign"
        if signs:
            self._faults.reach("before sign")
        try:
            told = await asyncio.to_thread(answer, self._decider, _ROLES, request)
        except Refusal as refusal:
            return Refused(code=refusal.code, text=str(refusal))
        if signs:
            self._faults.reach("after sign")
        return told
