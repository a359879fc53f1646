"""Blocks of an EVM chain through its node's JSON-RPC: blocks and receipts, proved, and what of them concerns us.

What is asked, and why: `prove` (receipts), `inner` (traces), `balances` (what the two do not show, and tokens that lie).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import structlog

from custody.chains.errors import RpcRefused
from custody.chains.evm.abi import parse_quantity
from custody.chains.evm.rpc import EvmRpc
from custody.chains.jsonrpc import JsonRpc, require_dict, require_list
from custody.chains.ports import Head
from custody.kernel.assetid import ChainId
from ingestion.errors import InconsistentNode
from ingestion.evm import balances, contracts
from ingestion.evm.errors import ForgedBlock, NodeCannotTrace, UnprovableBlock
from ingestion.evm.inner import DEBUG, TRACE, TRACER, InnerTransfer, of_frames, of_traces
from ingestion.evm.normalize import (
    BLOCK,
    READ_TOPICS,
    RECEIPT,
    TokenTransfer,
    hinted_accounts,
    named_accounts,
    normalize,
    relevant_hashes,
    token_transfers,
)
from ingestion.evm.prove import may_hold, prove_block, prove_receipts
from ingestion.evm.state import StateReader
from ingestion.model import BlockFacts, Notice
from ingestion.ports import Watch

BATCH_BLOCKS = 20
"""Blocks of one fetch."""
BATCH_RECEIPTS = 100
"""Receipts of one request, where they are asked for one by one."""
RECEIPTS = "eth_getBlockReceipts"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """How a chain's blocks are read and how far they must be proved. See the settings of the same names."""

    unprovable_blocks: Literal["refuse", "tell"] = "refuse"
    inner_value: Literal["balances", "debug", "trace"] = "balances"
    inner_value_from: int = 0
    wrapped_native: frozenset[str] = frozenset()
    """Lower-case."""


@dataclass(slots=True, kw_only=True)
class _Read:
    """One block as it is gathered."""

    block: dict[str, Any]
    receipts: list[dict[str, Any]] | None
    """All of them; None where the proved header says that none matters."""
    inner: list[InnerTransfer]
    transfers: list[TokenTransfer]
    notices: list[Notice]

    @property
    def logs(self) -> list[dict[str, Any]]:
        return [log for each in self.receipts or [] for log in each.get("logs") or []]


async def _abandon(task: asyncio.Future[list[_Read]]) -> None:
    """End what is no longer wanted; how it ended matters to nobody."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


class RpcBlocks:
    """Blocks, as far as they concern us. A `ChainSource`."""

    def __init__(
        self,
        chain: ChainId,
        rpc: JsonRpc,
        chain_id: int,
        watch: Watch,
        *,
        listed: contracts.Listed = contracts.nothing_listed,
        means: Means | None = None,
    ) -> None:
        """`watch` tells which accounts are vaults, `listed` which contracts are listed tokens."""
        self._chain = chain
        self._rpc = rpc
        self._client = EvmRpc(chain, rpc, chain_id)
        self._watch = watch
        self._listed = listed
        self._means = means or Means()
        self._state = StateReader(chain, rpc, refuse=self._means.unprovable_blocks == "refuse")
        self._whole_receipts: bool | None = None
        self._ahead: tuple[int, asyncio.Future[list[_Read]]] | None = None

    @property
    def chain(self) -> ChainId:
        """The CAIP-2 id of the chain."""
        return self._chain

    @property
    def reorganises(self) -> bool:
        """Blocks near the tip may be replaced."""
        return True

    @property
    def batch_max(self) -> int:
        """Blocks of one fetch."""
        return BATCH_BLOCKS

    async def verify_network(self) -> None:
        """Compare the node's chain id with ours. Raises WrongNetwork, and NodeCannotTrace where it has no such traces."""
        await self._client.verify_network()
        if self._means.inner_value != "balances":
            head = require_dict(BLOCK, await self._rpc.call(BLOCK, ["latest", False]))
            try:
                await self._rpc.call(*self._trace_call(head))
            except RpcRefused as error:
                raise NodeCannotTrace(chain=self._chain, inner_value=self._means.inner_value) from error

    async def head(self) -> Head:
        """The newest block."""
        return await self._client.head()

    async def oldest(self) -> int:
        """A node has every block from genesis on."""
        return 0

    async def fetch(self, first: int, last: int) -> list[BlockFacts]:
        """Blocks from `first` on. Raises InconsistentNode when the chain moved between two questions about one block.

        Raises ForgedBlock, UnprovableBlock or StateUnavailable when what the node says may not be booked.
        """
        reads = await self._take(first, min(last, first + BATCH_BLOCKS - 1))
        named = [self._named(each) for each in reads]
        everybody = frozenset[str]().union(*named)
        ours = await self._watch(everybody) if everybody else frozenset()
        return [await self._facts(each, ours & names) for each, names in zip(reads, named, strict=True)]

    async def hashes(self, heights: Sequence[int]) -> dict[int, str]:
        """The hashes that the node's chain has at these heights now."""
        answers = await self._rpc.call_all([(BLOCK, [hex(height), False]) for height in heights])
        found = {}
        for height, answer in zip(heights, answers, strict=True):
            if answer is not None:
                found[height] = str(require_dict(BLOCK, answer).get("hash")).lower()
        return found

    async def aclose(self) -> None:
        """Close the connections."""
        if self._ahead is not None:
            await _abandon(self._ahead[1])
        await self._rpc.aclose()

    async def _take(self, first: int, last: int) -> list[_Read]:
        """Blocks as they are gathered; those of the fetch after a full one are gathered meanwhile.

        Ahead is asked only what does not depend on who is ours: that question must come after the loop took notice of new
        accounts. What was read ahead is used while the node still has its last block, and so all below it.
        """
        reads = await self._read_ahead(first, last) or await self._gather(first, last)
        if len(reads) == BATCH_BLOCKS and self._whole_receipts:
            following = first + BATCH_BLOCKS
            self._ahead = (
                following,
                asyncio.ensure_future(self._gather(following, following + BATCH_BLOCKS - 1)),
            )
        return reads

    async def _read_ahead(self, first: int, last: int) -> list[_Read]:
        """What was gathered from this height on. Nothing when it was another height, or the node has other blocks by now."""
        if self._ahead is None:
            return []
        (begins, task), self._ahead = self._ahead, None
        if begins != first:
            await _abandon(task)
            return []
        reads = (await task)[: last - first + 1]
        if not reads:
            return []
        newest = parse_quantity(BLOCK, reads[-1].block.get("number"))
        known = await self.hashes([newest])
        return reads if known.get(newest) == str(reads[-1].block["hash"]).lower() else []

    async def _gather(self, first: int, last: int) -> list[_Read]:
        """Blocks, receipts and traces, proved."""
        reads = await self._blocks(first, last)
        await self._add_receipts(reads)
        await asyncio.to_thread(self._prove, reads)
        await self._add_inner(reads)
        for each in reads:
            each.transfers = token_transfers(each.logs, self._means.wrapped_native)
        return reads

    async def _blocks(self, first: int, last: int) -> list[_Read]:
        reads: list[_Read] = []
        for answer in await self._rpc.call_all(
            [(BLOCK, [hex(height), True]) for height in range(first, last + 1)]
        ):
            if answer is None:
                break
            block = require_dict(BLOCK, answer)
            if parse_quantity(BLOCK, block.get("number")) != first + len(reads):
                raise InconsistentNode(chain=self._chain, wanted=first + len(reads))
            reads.append(_Read(block=block, receipts=None, inner=[], transfers=[], notices=[]))
        return reads

    async def _add_receipts(self, reads: Sequence[_Read]) -> None:
        """All receipts of the blocks that need them; `prove` says which."""
        busy = [each for each in reads if each.block["transactions"]]
        if not busy:
            return
        if self._whole_receipts is None:
            self._whole_receipts = await self._offers_receipts(busy[0].block)
        if self._whole_receipts:
            answers = await self._asked([(RECEIPTS, [each.block["hash"]]) for each in busy])
            for each, answer in zip(busy, answers, strict=True):
                each.receipts = [require_dict(RECEIPTS, one) for one in require_list(RECEIPTS, answer)]
            return
        named = [names for each in busy for names in named_accounts(each.block, ())]
        ours = await self._watch(frozenset(named))
        for each in busy:
            if may_hold(each.block, READ_TOPICS) or named_accounts(each.block, ()) & ours:
                each.receipts = await self._one_by_one([str(tx["hash"]) for tx in each.block["transactions"]])

    async def _offers_receipts(self, block: Mapping[str, Any]) -> bool:
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

    def _prove(self, reads: Sequence[_Read]) -> None:
        """Raises ForgedBlock, and UnprovableBlock where the settings refuse what cannot be proved."""
        for each in reads:
            unproved = prove_block(each.block)
            if each.receipts is not None:
                unproved += prove_receipts(each.block, each.receipts)
            elif unproved and each.block["transactions"]:
                # An unproved header proves no absence of logs.
                unproved.append("no receipts")
            if unproved and self._means.unprovable_blocks == "refuse":
                raise UnprovableBlock(chain=self._chain, block=each.block.get("hash"), parts=unproved)
            if unproved:
                _log.warning(
                    "ingestion.unproved_block",
                    chain=self._chain,
                    block=each.block.get("hash"),
                    parts=unproved,
                )
                parts = "; ".join(unproved)
                each.notices.append(
                    Notice(code="unproved_block", account="", asset="", reported="", found=parts)
                )

    async def _add_inner(self, reads: Sequence[_Read]) -> None:
        traced = [each for each in reads if each.block["transactions"] and self._is_traced(each.block)]
        answers = await self._asked([self._trace_call(each.block) for each in traced])
        read = of_frames if self._means.inner_value == "debug" else of_traces
        for each, answer in zip(traced, answers, strict=True):
            each.inner = read(each.block, require_list(self._trace_call(each.block)[0], answer))

    def _is_traced(self, block: Mapping[str, Any]) -> bool:
        height = parse_quantity(BLOCK, block.get("number"))
        return self._means.inner_value != "balances" and height >= self._means.inner_value_from

    def _trace_call(self, block: Mapping[str, Any]) -> tuple[str, list[Any]]:
        if self._means.inner_value == "debug":
            return DEBUG, [block["hash"], TRACER]
        return TRACE, [block["number"]]

    async def _asked(self, calls: Sequence[tuple[str, Any]]) -> list[Any]:
        """Answers about blocks that the node has just named: a refusal or nothing means that they were replaced since."""
        try:
            answers = await self._rpc.call_all(calls)
        except RpcRefused as error:
            raise InconsistentNode(chain=self._chain, reason=error.rpc_message) from error
        if any(answer is None for answer in answers):
            raise InconsistentNode(chain=self._chain, reason="the node has its block no more")
        return answers

    def _named(self, read: _Read) -> frozenset[str]:
        named = named_accounts(read.block, read.transfers, read.inner)
        return named if self._is_traced(read.block) else named | hinted_accounts(read.block, read.logs)

    async def _facts(self, read: _Read, ours: frozenset[str]) -> BlockFacts:
        wanted = set(relevant_hashes(read.block, read.transfers, ours, read.inner)) if ours else set()
        receipts = {
            str(each["transactionHash"]).lower(): each
            for each in read.receipts or []
            if str(each["transactionHash"]).lower() in wanted
        }
        if len(receipts) != len(wanted):
            raise ForgedBlock(block=read.block.get("hash"), what="a receipt is missing")
        facts = normalize(
            self._chain, read.block, receipts, ours, inner=read.inner, wrapped=self._means.wrapped_native
        )
        facts = replace(facts, notices=tuple(read.notices))
        if ours:
            readings = await self._state.readings(read.block, balances.questions(self._chain, facts, ours))
            facts = balances.compare(self._chain, facts, readings)
        upgraded = contracts.upgraded(read.logs)
        moved = {each.contract for each in read.transfers if each.tx_hash in wanted}
        if upgraded or moved:
            told = await self._state.tokens(
                read.block, await self._listed(frozenset(upgraded) | moved), moved
            )
            facts = replace(facts, notices=(*facts.notices, *contracts.alarms(upgraded, told)))
        for each in facts.notices[len(read.notices) :]:
            _log.error(
                f"ingestion.{each.code}",
                chain=self._chain,
                height=facts.ref.height,
                account=each.account,
                asset=each.asset,
                reported=each.reported,
                found=each.found,
            )
        return facts
