"""Blocks of an EVM chain through its node's JSON-RPC: blocks and receipts, proved, and what of them concerns us.

What is asked, and why: `prove` (receipts), `inner` (traces), `balances` (what the two do not show, and tokens that lie).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import structlog

from custody.chains.errors import RpcRefused
from custody.chains.evm.abi import parse_quantity
from custody.chains.evm.rpc import EvmRpc
from custody.chains.jsonrpc import JsonRpc, require_dict, require_list
from custody.chains.ports import Head
from custody.kernel.assetid import AssetId, ChainId
from custody.kernel.errors import CustodyError
from ingestion.errors import InconsistentNode, NodeLacksTag, TagMissing
from ingestion.evm import contracts
from ingestion.evm.ahead import Ahead
from ingestion.evm.concerning import Concerning, GatheredBlock
from ingestion.evm.errors import NodeCannotTrace, UnprovableBlock
from ingestion.evm.inner import DEBUG, TRACE, TRACER, of_frames, of_traces
from ingestion.evm.normalize import (
    BLOCK,
    hinted_accounts,
    named_accounts,
    token_transfers,
)
from ingestion.evm.prove import prove_block, prove_receipts
from ingestion.evm.receipts import Accounts, Receipts, too_many
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
        self._means = means or Means()
        self._state = StateReader(chain, rpc, refuse=self._means.unprovable_blocks == "refuse")
        self._concerning = Concerning(
            chain,
            self._state,
            listed,
            wrapped_native=self._means.wrapped_native,
            l1_fee=self._means.l1_fee,
        )
        self._receipts = Receipts(chain, rpc, watch, accounts, sample_every=self._means.sample_every)
        self._newest = 0
        self._ahead = Ahead(self._ask, BATCH_BLOCKS)
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
        last = min(last, first + BATCH_BLOCKS - 1)
        reads = await self._asked_ahead(first, last) or await self._ask(first, last)
        if len(reads) == BATCH_BLOCKS and self._receipts.are_whole:
            self._ahead.ask(first + BATCH_BLOCKS)
        await self._examine(reads)
        named = [self._named(each) for each in reads]
        everybody = frozenset[str]().union(*named)
        ours = await self._watch(everybody) if everybody else frozenset()
        return await self._concerning.read(reads, [ours & names for names in named])

    async def fetch_naming(
        self, height: int, questions: Collection[tuple[str, AssetId]]
    ) -> BlockFacts | None:
        """One block as `fetch` gives it had it named these accounts and moved these tokens for them; None where there is none.

        Accounts that are ours. Raises like `fetch`."""
        reads = await self._ask(height, height)
        if not reads:
            return None
        await self._examine(reads)
        ours = await self._watch(self._named(reads[0])) | {account for account, _ in questions}
        (facts,) = await self._concerning.read(reads, [ours], also=questions)
        return facts

    async def balances(self, block_hash: str, questions: Sequence[tuple[str, AssetId]]) -> list[int | None]:
        """Each balance after a block; None where a token's contract does not tell. Raises StateUnavailable."""
        return await self._state.balances(block_hash, questions)

    async def _examine(self, reads: Sequence[GatheredBlock]) -> None:
        """Prove what was asked, and read of it what moved."""
        await asyncio.to_thread(self._prove, reads)
        for each in reads:
            self._read_traces(each)
            each.transfers = token_transfers(each.logs, self._means.wrapped_native)

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
        await self._ahead.abandon()
        await self._rpc.aclose()

    async def _asked_ahead(self, first: int, last: int) -> list[GatheredBlock]:
        """What was asked for before, from this height on; nothing where the node's chain has other blocks by now.

        It has the last of them, so it has all."""
        reads = (await self._ahead.take(first) or [])[: last - first + 1]
        if reads:
            newest = parse_quantity(BLOCK, reads[-1].block.get("number"))
            known = await self.hashes([newest])
            if known.get(newest) == _hash_of(reads[-1].block):
                return reads
        # What comes after it is as old, or was above the chain's end.
        await self._ahead.abandon()
        return []

    async def _ask(self, first: int, last: int) -> list[GatheredBlock]:
        """Blocks with their receipts and traces, as the node says them."""
        reads = await self._blocks(first, last)
        if self._means.sample_every is not None and not self._newest:
            await self.head()
        found = await self._receipts.gather([each.block for each in reads], self._newest)
        for each, gathered in zip(reads, found, strict=True):
            each.receipts, each.gathered = gathered.receipts, gathered
        traced = [each for each in reads if each.block["transactions"] and self._is_traced(each.block)]
        answers = await self._asked([self._trace_call(each.block) for each in traced])
        for each, answer in zip(traced, answers, strict=True):
            each.traces = require_list(self._trace_call(each.block)[0], answer)
        return reads

    async def _blocks(self, first: int, last: int) -> list[GatheredBlock]:
        reads: list[GatheredBlock] = []
        for answer in await self._rpc.call_all(
            [(BLOCK, [hex(height), True]) for height in range(first, last + 1)]
        ):
            if answer is None:
                break
            block = require_dict(BLOCK, answer)
            if parse_quantity(BLOCK, block.get("number")) != first + len(reads):
                raise InconsistentNode(chain=self._chain, wanted=first + len(reads))
            reads.append(
                GatheredBlock(
                    block=block, receipts=None, gathered=None, traces=None, inner=[], transfers=[], notices=[]
                )
            )
        return reads

    def _prove(self, reads: Sequence[GatheredBlock]) -> None:
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

    def _read_traces(self, read: GatheredBlock) -> None:
        if read.traces is not None:
            frames = of_frames if self._means.inner_value == "debug" else of_traces
            read.inner = frames(read.block, read.traces)

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

    def _named(self, read: GatheredBlock) -> frozenset[str]:
        named = named_accounts(read.block, read.transfers, read.inner)
        return named if self._is_traced(read.block) else named | hinted_accounts(read.block, read.logs)


def _hash_of(answer: Any) -> str:
    """The hash of a block that the node named; empty where it named none."""
    return "" if answer is None else str(require_dict(BLOCK, answer).get("hash")).lower()
