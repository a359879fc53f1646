"""A chain that says what it is told to: balances by height, with or without a memory of old heights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from custody.chains.errors import RpcUnreachable
from custody.chains.ports import ChainBalance, FeeQuote, Head, Submission, SubmissionStatus
from custody.kernel.assetid import AssetId, ChainId


@dataclass(slots=True, kw_only=True)
class RecordedChain:
    """A `ChainClient` of one account per asset."""

    chain: ChainId
    history: bool
    """Whether it answers at the height asked for, as EVM nodes do, or at its newest only."""
    height: int = 1
    amounts: dict[AssetId, dict[int, int]] = field(default_factory=dict)
    """Per asset: the height of each change and the amount from there on."""
    reachable: bool = True
    asked: int = 0
    before_answer: Callable[[RecordedChain], None] | None = None
    """What happens on the chain just before each answer."""

    def hold(self, asset: AssetId, amount: int) -> None:
        """From the present height on, this much is held."""
        self.amounts.setdefault(asset, {})[self.height] = amount

    async def balance(self, account: str, asset: AssetId, height: int | None) -> ChainBalance:
        self.asked += 1
        if self.before_answer is not None:
            self.before_answer(self)
        if not self.reachable:
            raise RpcUnreachable
        at = height if self.history and height is not None else self.height
        changes = self.amounts.get(asset, {})
        known = [changed for changed in changes if changed <= at]
        return ChainBalance(amount=changes[max(known)] if known else 0, height=at)

    async def submit(self, tx: bytes, tx_hash: str) -> Submission:
        return Submission(status=SubmissionStatus.REFUSED, code="read_only")

    async def next_sequence(self, account: str) -> int:
        return 0

    async def head(self) -> Head:
        return Head(height=self.height, hash="00")

    async def fees(self) -> FeeQuote:
        return FeeQuote()

    async def verify_network(self) -> None:
        return None

    async def aclose(self) -> None:
        return None
