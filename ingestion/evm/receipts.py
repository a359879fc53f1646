"""Which blocks need their receipts, and getting them: all of a block or none, since only all have a root.

Where a node gives a block's receipts at once, they are asked for of every block with transactions. Where it gives them one by
one, only of blocks whose transactions name an account of ours, or whose bloom may hold a log that concerns us. While our accounts
are few, the bloom is asked for each of them, in whatever log; else for the kinds of logs that we read.
With `logs = "sample"` the provider's list of logs stands for the bloom's "maybe" (`logs`): what it names is proved, and of the
rest one in so many. A log of ours in one of those is a lie, and the provider is done with for now.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from secrets import SystemRandom
from typing import Any

import structlog

from custody.chains.errors import RpcRefused
from custody.chains.evm.abi import UPGRADED_TOPIC, parse_quantity
from custody.chains.jsonrpc import JsonRpc, require_dict, require_list
from custody.kernel.assetid import ChainId
from ingestion.errors import InconsistentNode
from ingestion.evm.encoding import bloom_bits
from ingestion.evm.errors import LogsOmitted
from ingestion.evm.logs import LogWindows, padded
from ingestion.evm.normalize import BLOCK, READ_TOPICS, RECEIPT, named_accounts
from ingestion.evm.prove import may_hold
from ingestion.ports import Watch

BATCH_RECEIPTS = 100
"""Receipts of one request, where they are asked for one by one."""
ACCOUNTS_MAX = 500
"""With more accounts than this on the chain the bloom is not asked for each, nor `eth_getLogs`: providers bound their topics."""
RECEIPTS = "eth_getBlockReceipts"
Block = Mapping[str, Any]
Accounts = Callable[[int], Awaitable[frozenset[str] | None]]
"""All accounts of ours on the chain; None when they are more than so many."""

_log = structlog.get_logger(__name__)


async def too_many(_most: int) -> None:
    """For sources that cannot list our accounts."""
    return


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What was had of one block."""

    receipts: list[dict[str, Any]] | None
    """All of them; None where none matters, by the header's bloom or by the provider's list of logs."""
    silent_on: frozenset[str] = frozenset()
    """Topics that no log of these receipts should have: the provider's list named none."""


class Receipts:
    """One provider's receipts."""

    def __init__(
        self, chain: ChainId, rpc: JsonRpc, watch: Watch, accounts: Accounts, *, sample_every: int | None
    ) -> None:
        """`sample_every`: one in so many blocks is proved of which the list of logs says nothing; None: it is not asked."""
        self._chain = chain
        self._rpc = rpc
        self._watch = watch
        self._accounts = accounts
        self._sample_every = sample_every
        self._windows = LogWindows(chain, rpc)
        self._whole: bool | None = None
        self._bits: tuple[frozenset[str], list[int]] = (frozenset(), [])

    @property
    def are_whole(self) -> bool:
        """Whether the node gives a block's receipts at once: then nothing that is asked depends on who is ours."""
        return self._whole is True

    async def gather(self, blocks: Sequence[Block], newest: int) -> list[Gathered]:
        """The receipts of blocks that follow each other; `newest` is the chain's newest height. To be proved by the caller."""
        busy = [each for each in blocks if each["transactions"]]
        if busy and self._whole is None:
            self._whole = await self._offers_receipts(busy[0])
        if self._whole:
            found = await self._at_once(busy)
        else:
            found = await self._needed(busy, newest) if busy else {}
        return [found.get(str(each["hash"]), Gathered(receipts=None)) for each in blocks]

    def demand_told(self, block: Block, gathered: Gathered) -> None:
        """Raises LogsOmitted when proved receipts hold a log that the provider's list should have named."""
        for receipt in gathered.receipts or ():
            for log in receipt["logs"]:
                topics = [each.lower() for each in log["topics"]]
                if gathered.silent_on & {
                    *topics[1:],
                    *(each for each in topics[:1] if each == UPGRADED_TOPIC),
                }:
                    raise LogsOmitted(
                        chain=self._chain,
                        height=parse_quantity(BLOCK, block.get("number")),
                        tx_hash=receipt["transactionHash"],
                        contract=log["address"],
                    )

    async def _at_once(self, busy: Sequence[Block]) -> dict[str, Gathered]:
        try:
            answers = await self._rpc.call_all([(RECEIPTS, [each["hash"]]) for each in busy])
        except RpcRefused as error:
            raise InconsistentNode(chain=self._chain, reason=error.rpc_message) from error
        found = {}
        for block, answer in zip(busy, answers, strict=True):
            if answer is None:
                raise InconsistentNode(chain=self._chain, reason="the node has its block no more")
            rows = [require_dict(RECEIPTS, one) for one in require_list(RECEIPTS, answer)]
            found[str(block["hash"])] = Gathered(receipts=rows)
        return found

    async def _needed(self, busy: Sequence[Block], newest: int) -> dict[str, Gathered]:
        """Receipts one by one, of the blocks that need them."""
        named = [named_accounts(each, ()) for each in busy]
        ours = await self._watch(frozenset[str]().union(*named))
        accounts = await self._accounts(ACCOUNTS_MAX)
        topics = frozenset(READ_TOPICS if accounts is None else {UPGRADED_TOPIC, *map(padded, accounts)})
        maybe = [may_hold(each, self._bits_of(topics)) for each in busy]
        listed: frozenset[int] | None = None
        if self._sample_every is not None and accounts is not None and any(maybe):
            heights = [_height(each) for each in busy]
            listed = await self._windows.named(heights[0], heights[-1], newest, sorted(map(padded, accounts)))
        found, believed = {}, 0
        for block, names, may in zip(busy, named, maybe, strict=True):
            silent = listed is not None and _height(block) not in listed
            if not (names & ours):
                if not may:
                    continue
                if silent and not self._is_sampled():
                    believed += 1
                    continue
            receipts = await self._one_by_one([str(tx["hash"]) for tx in block["transactions"]])
            found[str(block["hash"])] = Gathered(
                receipts=receipts, silent_on=topics if silent else frozenset()
            )
        if believed:
            _log.info("ingestion.logs_believed", chain=self._chain, blocks=believed, height=_height(busy[-1]))
        return found

    def _is_sampled(self) -> bool:
        """By chance, so that nobody can know which omission stays unseen."""
        return SystemRandom().randrange(self._sample_every or 1) == 0

    def _bits_of(self, topics: frozenset[str]) -> list[int]:
        if self._bits[0] != topics:
            self._bits = topics, [bloom_bits(each) for each in topics]
        return self._bits[1]

    async def _offers_receipts(self, block: Block) -> bool:
        try:
            return await self._rpc.call(RECEIPTS, [block["hash"]]) is not None
        except RpcRefused:
            return False

    async def _one_by_one(self, hashes: Sequence[str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for start in range(0, len(hashes), BATCH_RECEIPTS):
            part = hashes[start : start + BATCH_RECEIPTS]
            answers = await self._rpc.call_all([(RECEIPT, [each]) for each in part])
            for tx_hash, answer in zip(part, answers, strict=True):
                if answer is None:
                    raise InconsistentNode(chain=self._chain, tx_hash=tx_hash, reason="no receipt")
                found.append(require_dict(RECEIPT, answer))
        return found


def _height(block: Block) -> int:
    return parse_quantity(BLOCK, block.get("number"))
