"""A chain of a few lines: a queue, sequences, blocks on demand. Passes `tests/contract/test_chain_client.py` like real clients.

`close_block` is the network; what it returns is what our ingestion would have seen.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from custody.chains.ports import ChainBalance, FeeQuote, Head, Submission, SubmissionStatus
from custody.kernel.assetid import AssetId, ChainId
from custody.withdrawals.model import OwnTransaction
from tests.fakes.faults import Faults

FEE = 100


class FakeChain:
    """One chain. On Stellar one transaction per source is queued; on EVM nonces queue up."""

    def __init__(self, chain: ChainId, faults: Faults) -> None:
        self._chain = chain
        self.stellar = chain.startswith("stellar:")
        self.faults = faults
        self.height = 100
        self.holds = 10**24
        self.next: Counter[str] = Counter()
        self.pool: dict[str, dict[str, Any]] = {}
        self.included: list[OwnTransaction] = []
        self.answers: list[Submission] = []
        self.drops = False
        self.floor = 0
        self.price = 20
        self.mines_from = 0
        self.fails_on_chain = False
        self.sent: list[bytes] = []

    @property
    def chain(self) -> ChainId:
        return self._chain

    async def submit(self, tx: bytes, tx_hash: str) -> Submission:
        self.faults.reach("before submit")
        self.sent.append(tx)
        answer = self._take(json.loads(tx), tx_hash)
        self.faults.reach("after submit")
        return self.answers.pop(0) if self.answers else answer

    def _take(self, tx: dict[str, Any], tx_hash: str) -> Submission:
        if self.drops or any(seen.tx_hash == tx_hash for seen in self.included):
            return Submission(status=SubmissionStatus.TRY_LATER)
        source, number = tx["fields"]["source"], _number(tx)
        waiting = [each for each in self.pool.values() if each["fields"]["source"] == source]
        if self.stellar and waiting and tx_hash not in self.pool:
            return Submission(status=SubmissionStatus.TRY_LATER)
        expected = self.next[source] + (1 if self.stellar else 0)
        if number < expected or (self.stellar and number != expected):
            return Submission(status=SubmissionStatus.REFUSED, code="bad_sequence")
        if not self.stellar and tx_hash not in self.pool and (refusal := self._outbid(tx, waiting)):
            return refusal
        self.pool[tx_hash] = tx
        return Submission(status=SubmissionStatus.ACCEPTED)

    def _outbid(self, tx: dict[str, Any], waiting: list[dict[str, Any]]) -> Submission | None:
        """A node's pool: below the floor nothing enters; a nonce passes to who pays a tenth more, in both prices."""
        if tx["slot"]["max_fee_per_gas"] < self.floor:
            return Submission(status=SubmissionStatus.REFUSED, code="underpriced")
        held = [each for each in waiting if _number(each) == _number(tx)]
        prices = ("max_fee_per_gas", "max_priority_fee_per_gas")
        if any(tx["slot"][name] * 10 < each["slot"][name] * 11 for each in held for name in prices):
            return Submission(status=SubmissionStatus.REFUSED, code="replacement_underpriced")
        for each in held:
            self.pool = {name: one for name, one in self.pool.items() if one is not each}
        return None

    async def next_sequence(self, account: str) -> int:
        self.faults.reach("before reserve")
        if self.stellar:
            return self.next[account] + 1
        waiting = [_number(each) for each in self.pool.values() if each["fields"]["source"] == account]
        pending = self.next[account]
        while pending in waiting:
            pending += 1
        return pending

    async def mined_sequence(self, account: str) -> int:
        return self.next[account] + (1 if self.stellar else 0)

    async def head(self) -> Head:
        return Head(height=self.height, hash=f"{self.height:064x}")

    async def balance(self, account: str, asset: AssetId, height: int | None) -> ChainBalance:
        return ChainBalance(amount=self.holds, height=self.height)

    async def fees(self) -> FeeQuote:
        if self.stellar:
            return FeeQuote(fee_stroops=FEE)
        return FeeQuote(
            max_fee_per_gas_wei=self.price,
            max_priority_fee_per_gas_wei=1,
            base_fee_per_gas_wei=(self.price - 1) // 2,
        )

    async def verify_network(self) -> None:
        """Always the right one."""

    async def aclose(self) -> None:
        """Nothing is open."""

    def close_block(self) -> list[OwnTransaction]:
        """Close one block with all that is queued and due, and return it."""
        self.height += 1
        taken = []
        for tx_hash, tx in sorted(self.pool.items(), key=lambda item: _number(item[1])):
            source, number = tx["fields"]["source"], _number(tx)
            if self.stellar and self.height >= tx["slot"]["max_ledger"]:
                continue
            expected = self.next[source] + (1 if self.stellar else 0)
            if number != expected or (not self.stellar and tx["slot"]["max_fee_per_gas"] < self.mines_from):
                continue
            self.next[source] += 1
            taken.append(
                OwnTransaction(
                    chain=self._chain,
                    height=self.height,
                    tx_hash=tx_hash,
                    account=source,
                    succeeded=not self.fails_on_chain,
                    fee_atomic=FEE,
                    sequence=number,
                    occurred_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.height),
                )
            )
        for seen in taken:
            del self.pool[seen.tx_hash]
        if self.stellar:
            self.pool = {
                name: tx for name, tx in self.pool.items() if self.height + 1 < tx["slot"]["max_ledger"]
            }
        self.included += taken
        return taken


def _number(tx: dict[str, Any]) -> int:
    slot = tx["slot"]
    return int(slot["sequence"] if "sequence" in slot else slot["nonce"])
