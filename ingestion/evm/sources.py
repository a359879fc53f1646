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
from custody.chains.evm.address import checksum
from custody.chains.evm.rpc import EvmRpc
from custody.chains.jsonrpc import JsonRpc, require_dict, require_list
from custody.chains.ports import Head
from custody.kernel.assetid import ChainId
from custody.kernel.errors import CustodyError
from ingestion.errors import InconsistentNode, NodeLacksTag, TagMissing
from ingestion.evm import balances, contracts
from ingestion.evm.encoding import DEPOSIT
from ingestion.evm.errors import FeeUntold, ForgedBlock, NodeCannotTrace, UnprovableBlock
from ingestion.evm.inner import DEBUG, TRACE, TRACER, InnerTransfer, of_frames, of_traces
from ingestion.evm.normalize import (
    BLOCK,
    TokenTransfer,
    hinted_accounts,
    named_accounts,
    normalize,
    relevant_hashes,
    token_transfers,
)
from ingestion.evm.prove import prove_block, prove_receipts
from ingestion.evm.receipts import Accounts, Gathered, Receipts, too_many
from ingestion.evm.state import StateReader
from ingestion.model import BlockFacts, BlockRef, Notice
from ingestion.ports import Watch

BATCH_BLOCKS = 20
"""Blocks of one fetch."""
INVALID_PARAMS = -32602
"""Source: JSON-RPC 2.0, section 5.1."""
NOT_YET = ("not found", "unknown block")
"""Words of nodes that know a tag and have no block for it yet."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """How a chain's blocks are read and how far they must be proved. See the settings of the same names."""

    unprovable_blocks: Literal["refuse", "tell"] = "refuse"
    inner_value: Literal["balances", "debug", "trace"] = "balances"
    inner_value_from: int = 0
    wrapped_native: frozenset[str] = frozenset()
    """Lower-case."""
    l1_fee: bool = False
    sample_every: int | None = None
    """`logs_sample_every` where logs are sampled; None where they are proved."""
    tags: frozenset[str] = frozenset()
    """The tags that the finality rules name: the node must offer them."""


@dataclass(slots=True, kw_only=True)
class _Read:
    """One block as it is gathered."""

    block: dict[str, Any]
    receipts: list[dict[str, Any]] | None
    """All of them; None where none matters."""
    gathered: Gathered | None
    inner: list[InnerTransfer]
    transfers: list[TokenTransfer]
    notices: list[Notice]

    @property
    def logs(self) -> list[dict[str, Any]]:
        return [log for each in self.receipts or [] for log in each.get("logs") or []]


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
        accounts: Accounts = too_many,
        means: Means | None = None,
    ) -> None:
        """`watch` tells which accounts are vaults, `accounts` all of them, `listed` which contracts are listed tokens."""
        self._chain = chain
        self._rpc = rpc
        self._client = EvmRpc(chain, rpc, chain_id)
        self._watch = watch
        self._listed = listed
        self._means = means or Means()
        self._state = StateReader(chain, rpc, refuse=self._means.unprovable_blocks == "refuse")
        self._receipts = Receipts(chain, rpc, watch, accounts, sample_every=self._means.sample_every)
        self._newest = 0
        self._unproved_last = ""

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
        """Compare the node's chain id with ours. Raises WrongNetwork, and NodeLacksTag or NodeCannotTrace for what it lacks."""
        await self._client.verify_network()
        for tag in sorted(self._means.tags):
            await self.tagged(tag, None)
        if self._means.inner_value != "balances":
            head = require_dict(BLOCK, await self._rpc.call(BLOCK, ["latest", False]))
            try:
                await self._rpc.call(*self._trace_call(head))
            except RpcRefused as error:
                raise NodeCannotTrace(chain=self._chain, inner_value=self._means.inner_value) from error

    async def head(self) -> Head:
        """The newest block."""
        head = await self._client.head()
        self._newest = head.height
        return head

    async def tagged(self, tag: str, tip: BlockRef | None) -> Head | None:
        """The node's block of this tag; None where its chain does not hold `tip`. Raises TagMissing, NodeLacksTag."""
        calls: list[tuple[str, Any]] = [(BLOCK, [tag, False])]
        if tip is not None:
            calls.append((BLOCK, [hex(tip.height), False]))
        answers = await self._rpc.call_each(calls)
        if isinstance(answers[0], RpcRefused):
            raise self._no_tag(tag, answers[0])
        if answers[0] is None:
            raise TagMissing(chain=self._chain, tag=tag)
        if tip is not None and _hash_of(answers[1]) != tip.hash:
            return None
        block = require_dict(BLOCK, answers[0])
        return Head(height=parse_quantity(BLOCK, block.get("number")), hash=_hash_of(block))

    def _no_tag(self, tag: str, refusal: RpcRefused) -> CustodyError:
        """What a refusal of a tag means. A rate limit or a broken node says nothing about tags."""
        words = refusal.rpc_message.lower()
        if any(each in words for each in NOT_YET):
            return TagMissing(chain=self._chain, tag=tag)
        if refusal.rpc_code == INVALID_PARAMS or "hex string" in words or "unsupported" in words:
            return NodeLacksTag(chain=self._chain, tag=tag, node=refusal.rpc_message)
        return refusal

    async def oldest(self) -> int:
        """A node has every block from genesis on."""
        return 0

    async def fetch(self, first: int, last: int) -> list[BlockFacts]:
        """Blocks from `first` on. Raises InconsistentNode when the chain moved between two questions about one block.

        Raises ForgedBlock, UnprovableBlock or StateUnavailable when what the node says may not be booked.
        """
        reads = await self._blocks(first, min(last, first + BATCH_BLOCKS - 1))
        if self._means.sample_every is not None and not self._newest:
            await self.head()
        found = await self._receipts.gather([each.block for each in reads], self._newest)
        for each, gathered in zip(reads, found, strict=True):
            each.receipts, each.gathered = gathered.receipts, gathered
        await asyncio.to_thread(self._prove, reads)
        await self._add_inner(reads)
        for each in reads:
            each.transfers = token_transfers(each.logs, self._means.wrapped_native)
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
                found[height] = _hash_of(answer)
        return found

    async def aclose(self) -> None:
        """Close the connections."""
        await self._rpc.aclose()

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
            reads.append(_Read(block=block, receipts=None, gathered=None, inner=[], transfers=[], notices=[]))
        return reads

    def _prove(self, reads: Sequence[_Read]) -> None:
        """Raises ForgedBlock, and UnprovableBlock where the settings refuse what cannot be proved."""
        for each in reads:
            unproved = prove_block(each.block)
            if each.receipts is not None:
                unproved += prove_receipts(each.block, each.receipts)
                if each.gathered is not None:
                    self._receipts.demand_told(each.block, each.gathered)
            elif unproved and each.block["transactions"]:
                # An unproved header proves no absence of logs.
                unproved.append("no receipts")
            if unproved and self._means.unprovable_blocks == "refuse":
                raise UnprovableBlock(chain=self._chain, block=each.block.get("hash"), parts=unproved)
            if unproved:
                parts = "; ".join(unproved)
                # Where every block holds such a part, once is enough; each block has its notice.
                tell = _log.info if parts == self._unproved_last else _log.warning
                tell(
                    "ingestion.unproved_block",
                    chain=self._chain,
                    block=each.block.get("hash"),
                    parts=unproved,
                )
                self._unproved_last = parts
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
        self._demand_whole_fees(read.block, receipts, ours)
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

    def _demand_whole_fees(
        self, block: Mapping[str, Any], receipts: Mapping[str, Mapping[str, Any]], ours: frozenset[str]
    ) -> None:
        """Raises FeeUntold where `l1_fee` is set and a receipt of our own transaction lacks it: no hash holds that field."""
        if not self._means.l1_fee:
            return
        for tx in block["transactions"]:
            receipt = receipts.get(str(tx["hash"]).lower())
            if receipt is None or parse_quantity(BLOCK, tx.get("type") or "0x0") == DEPOSIT:
                continue
            if checksum(str(tx["from"])) in ours and receipt.get("l1Fee") is None:
                raise FeeUntold(chain=self._chain, tx_hash=tx["hash"])


def _hash_of(answer: Any) -> str:
    """The hash of a block that the node named; empty where it named none."""
    return "" if answer is None else str(require_dict(BLOCK, answer).get("hash")).lower()
