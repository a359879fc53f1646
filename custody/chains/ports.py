"""What the domain asks of a chain: submit, read a sequence, a balance, the head and the going fees.

One `ChainClient` per chain. Every call talks to the network, so none may run inside a database transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from custody.kernel.assetid import AssetId, ChainId


class SubmissionStatus(StrEnum):
    """The ways a submission ends. Only REFUSED says that the transaction is not on its way."""

    ACCEPTED = "accepted"
    """The node has it, now or already before: wait for our own ingestion to see it."""
    TRY_LATER = "try_later"
    """The node did not queue it; the same bytes may be sent again after a pause."""
    REFUSED = "refused"
    """The node judged the bytes and will not take them; `code` says why."""
    UNKNOWN = "unknown"
    """No answer, or one that proves nothing. The same bytes may be sent again; other bytes may not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What a node said about one signed transaction."""

    status: SubmissionStatus
    code: str = ""
    """The chain's own reason: a Stellar result code (`txBAD_SEQ`), an EVM class (`insufficient_funds`); empty when accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The newest block or ledger that the node has."""

    height: int
    hash: str
    """Lower-case hex; with 0x on EVM chains, without on Stellar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainBalance:
    """What the chain itself says an account holds."""

    amount: int
    """Atomic units of the asset; zero when the account or trustline does not exist."""
    height: int
    """The height at which this amount is true. May be later than the one asked for where the node keeps no history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeeQuote:
    """The going price of inclusion. Fields of the other kind of chain are zero. Caps are the caller's business."""

    fee_stroops: int = 0
    """Stellar: inclusion fee for one operation."""
    max_fee_per_gas_wei: int = 0
    """EVM (EIP-1559): twice the next base fee plus the tip, so that six full blocks in a row do not price it out."""
    max_priority_fee_per_gas_wei: int = 0
    """EVM (EIP-1559): the tip."""
    base_fee_per_gas_wei: int = 0
    """EVM (EIP-1559): what the next block burns; 0 where the whole price is the producer's."""
    layer_one_fee_wei: int = 0
    """EVM rollups that charge for the layer below beside the gas: the most that one transaction may cost there."""


class ChainClient(Protocol):
    """One chain as the domain sees it. Raises `RpcUnreachable`, `RpcRefused` or `RpcUnreadable` from every call but `submit`."""

    @property
    def chain(self) -> ChainId:
        """The CAIP-2 id of the chain."""
        ...

    async def submit(self, tx: bytes, tx_hash: str) -> Submission:
        """Send signed bytes. Never raises for network trouble: that is UNKNOWN."""
        ...

    async def next_sequence(self, account: str) -> int:
        """The sequence number (Stellar) or nonce (EVM) that the account's next transaction must carry."""
        ...

    async def mined_sequence(self, account: str) -> int:
        """The same by blocks alone: what is queued is not counted."""
        ...

    async def head(self) -> Head:
        """The newest block or ledger."""
        ...

    async def balance(self, account: str, asset: AssetId, height: int | None) -> ChainBalance:
        """The holding of `account`, at `height` where the node can tell and at its newest height where it cannot."""
        ...

    async def fees(self) -> FeeQuote:
        """What inclusion costs now."""
        ...

    async def verify_network(self) -> None:
        """Ask the node which network it serves. Raises `WrongNetwork`."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...
