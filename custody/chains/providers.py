"""Several providers of one chain behind one client: one that is dead or slow does not stop sending.

Questions go to the first in order that answers; one that gave no answer rests, longer each time. A transaction goes to all of
them, resting or not: every pool that has it is a way into a block, and the next question about the account's nonce may be
answered by any of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from custody.chains.errors import RpcRefused, RpcUnreachable
from custody.chains.ports import ChainBalance, ChainClient, FeeQuote, Head, Submission, SubmissionStatus
from custody.kernel.assetid import AssetId, ChainId
from custody.kernel.errors import Unavailable

GRACE_S = 1.0
"""How long the other providers are waited for once one has the transaction."""
REST_MAX_S = 60
"""The longest rest."""
_WEIGHT = (
    SubmissionStatus.ACCEPTED,
    SubmissionStatus.UNKNOWN,
    SubmissionStatus.REFUSED,
    SubmissionStatus.TRY_LATER,
)
"""Which of several answers stands for all, the first of these that was given: one has it; one may have it; one has judged it, and
none has it; none has it. Of two of a kind, that of a node that said something counts."""

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


@dataclass(slots=True, kw_only=True)
class _Provider:
    client: ChainClient
    number: int
    verified: bool = False
    failures: int = 0
    rests_until_s: float = 0.0
    """In the event loop's time."""


class Providers:
    """A `ChainClient` of several, in the order of preference. Each is asked for its network before its first answer counts."""

    def __init__(self, clients: Sequence[ChainClient]) -> None:
        """All of one chain; one at least."""
        self._all = [_Provider(client=client, number=number) for number, client in enumerate(clients, 1)]

    @property
    def chain(self) -> ChainId:
        """The CAIP-2 id of the chain."""
        return self._all[0].client.chain

    async def submit(self, tx: bytes, tx_hash: str) -> Submission:
        """Send to all, and wait for those who are slow only until one has it. Which answer stands for all: `_WEIGHT`."""
        asked = [asyncio.ensure_future(each.client.submit(tx, tx_hash)) for each in self._all]
        try:
            for answer in asyncio.as_completed(asked):
                if (await answer).status is SubmissionStatus.ACCEPTED:
                    await asyncio.wait(asked, timeout=GRACE_S)
                    break
        finally:
            for each in asked:
                each.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        told = [each.result() for each in asked if not each.cancelled()]
        return min(told, key=lambda one: (_WEIGHT.index(one.status), one.code == RpcUnreachable.code))

    async def next_sequence(self, account: str) -> int:
        """As of the first that answers."""
        return await self._first(lambda client: client.next_sequence(account))

    async def mined_sequence(self, account: str) -> int:
        """As of the first that answers."""
        return await self._first(lambda client: client.mined_sequence(account))

    async def head(self) -> Head:
        """As of the first that answers."""
        return await self._first(lambda client: client.head())

    async def balance(self, account: str, asset: AssetId, height: int | None) -> ChainBalance:
        """As of the first that answers."""
        return await self._first(lambda client: client.balance(account, asset, height))

    async def fees(self) -> FeeQuote:
        """As of the first that answers."""
        return await self._first(lambda client: client.fees())

    async def verify_network(self) -> None:
        """Ask the first that answers. Raises `WrongNetwork`."""
        await self._first(lambda client: client.verify_network())

    async def aclose(self) -> None:
        """Close the connections of all."""
        await asyncio.gather(*(each.client.aclose() for each in self._all))

    async def _first(self, call: Callable[[ChainClient], Awaitable[_T]]) -> _T:
        """The answer of the first who gives one; who rests is asked last. Raises the first absence when nobody does."""
        now = asyncio.get_running_loop().time()
        absences: list[Unavailable] = []
        for each in sorted(self._all, key=lambda one: one.rests_until_s > now):
            try:
                if not each.verified:
                    await each.client.verify_network()
                    each.verified = True
                answer = await call(each.client)
            except RpcRefused as error:
                # It answers; somebody else may know more.
                absences.append(error)
            except Unavailable as error:
                absences.append(error)
                self._rest(each, str(error))
            except asyncio.CancelledError:
                self._rest(each, "whoever asked did not wait any longer")
                raise
            else:
                each.failures, each.rests_until_s = 0, 0.0
                return answer
        raise absences[0]

    def _rest(self, provider: _Provider, reason: str) -> None:
        provider.failures += 1
        rest_s = min(2.0**provider.failures, REST_MAX_S)
        provider.rests_until_s = asyncio.get_running_loop().time() + rest_s
        _log.warning("chain.provider_away", chain=self.chain, provider=provider.number, reason=reason)
