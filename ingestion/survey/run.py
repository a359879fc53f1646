"""Compare what every account of ours holds at a final block with what its blocks have left there, and find what came unseen.

A block shows only accounts that it names (`ingestion.evm`), so that a contract may pay one in a block that we read without it.
The survey asks for each balance; where one differs, the blocks that changed it are searched for by their balances and read again
with the account named. What they then bring is booked as if they had named it: the same place, the same rules, exactly once.
Where the node no longer has the state to search in, the newest block is read with the account, so that the difference is a break.

Killed anywhere it goes on where it was; asked again it books nothing twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from custody.assets import service as assets
from custody.db.session import Database, ReadSession, UnitOfWork
from custody.deposits.model import Caution
from custody.holdings import halts
from custody.holdings import service as holdings
from custody.holdings.model import HeldAt
from custody.holdings.service import ACTOR
from custody.identity import service as identity
from custody.kernel.assetid import AssetId, ChainId, native
from custody.kernel.ids import VaultId
from custody.wallets import service as wallets
from custody.wallets.model import VaultRef
from ingestion import cursor, effects, halting, settling
from ingestion.errors import InconsistentNode, StateUnavailable
from ingestion.model import BlockFacts, BlockRef
from ingestion.survey import store
from ingestion.survey.model import Surveyed
from ingestion.survey.search import find_changes, gaps_of

CHANGES_MAX = 32
"""Blocks that are searched for in one pass for one holding; what is left waits for the next."""
BREAKS_MAX = 32
"""Open breaks that are looked into at the beginning of a pass."""

_log = structlog.get_logger(__name__)

Question = tuple[str, AssetId]
"""An account and what it may hold."""


class BalanceSource(Protocol):
    """What the survey asks a chain's node."""

    @property
    def chain(self) -> ChainId:
        """The CAIP-2 id of the chain."""
        ...

    async def balances(self, block_hash: str, questions: Sequence[Question]) -> list[int | None]:
        """Each balance after a block; None where a token's contract does not tell. Raises StateUnavailable."""
        ...

    async def fetch_naming(self, height: int, questions: Sequence[Question]) -> BlockFacts | None:
        """One block as if it had named these accounts. None where there is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A holding whose balance at the final block differs from what is kept, or whose books do."""

    ref: VaultRef
    asset: AssetId
    amount: int

    @property
    def key(self) -> tuple[VaultId, AssetId]:
        return self.ref.vault_id, self.asset

    def at(self, height: int) -> HeldAt:
        return HeldAt(height=height, before=self.amount, amount=self.amount)


class Surveyor:
    """Surveys over one chain's accounts for a worker that holds its fence."""

    def __init__(
        self, db: Database, source: BalanceSource, fence: int, *, questions: int, caution: Caution
    ) -> None:
        """`questions`: how many balances one step may ask for, at least one account's. `caution`: what is left to the live
        loop."""
        self._db = db
        self._source = source
        self._chain = source.chain
        self._fence = fence
        self._questions = questions
        self._caution = caution

    async def step(self) -> Surveyed:
        """The next accounts of the pass, at the newest final block. Raises FenceLost, ChainHalted, StateUnavailable and what the
        node raises."""
        async with self._db.read(None) as session:
            if await halts.find_open(session, self._chain) is not None:
                return Surveyed()
            tenants = await identity.list_tenants(session)
            survey = await store.load(session, self._chain)
            listed = [each.id for each in await assets.list_assets(session) if each.id.chain == self._chain]
            tokens = [asset for asset in listed if not asset.is_native]
            after = "" if survey is None else survey.after
            most = max(1, self._questions // (1 + len(tokens)))
            refs = await wallets.list_watched(session, self._chain, after, most)
            unread = await store.find_unread(session, self._chain, [ref.account for ref in refs])
            final = await halting.final_anywhere(session, self._chain, tenants)
            block = (await cursor.recorded(session, self._chain, final, final)).get(final)
        if block is None:
            return Surveyed()
        if not after:
            await self._look_into_breaks(block)
        questions = [
            (ref, asset)
            for ref in refs
            if ref.account not in unread
            for asset in (native(self._chain), *tokens)
        ]
        found = await self._differing(block, questions)
        for each in found:
            await self._resolve(block, each)
        await self._move_on(block, refs, is_last=len(refs) < most)
        return Surveyed(asked=len(questions), found=len(found), height=block.height, is_last=len(refs) < most)

    async def _differing(self, block: BlockRef, questions: Sequence[tuple[VaultRef, AssetId]]) -> list[_Seen]:
        """Which of these hold at the block what no block that we read has left there."""
        if not questions:
            return []
        told = await self._source.balances(block.hash, [(ref.account, asset) for ref, asset in questions])
        found = []
        async with self._db.read(None) as session:
            for tenant in sorted({ref.tenant for ref, _ in questions}):
                await session.act_for(tenant)
                mine = [
                    (ref, asset, amount)
                    for (ref, asset), amount in zip(questions, told, strict=True)
                    if ref.tenant == tenant and amount is not None
                ]
                kept = await holdings.amounts_at(
                    session, [(ref.vault_id, asset) for ref, asset, _ in mine], block.height
                )
                found += [
                    _Seen(ref=ref, asset=asset, amount=amount)
                    for ref, asset, amount in mine
                    if amount != kept.get((ref.vault_id, asset), 0)
                ]
        return found

    async def _look_into_breaks(self, block: BlockRef) -> None:
        """A break may be of something that came unseen before a block that named its account: then its states have a gap."""
        broken: list[tuple[VaultRef, AssetId]] = []
        async with self._db.read(None) as session:
            for tenant in await identity.list_tenants(session):
                await session.act_for(tenant)
                for each in await holdings.open_breaks(session, self._chain):
                    vault = await wallets.get_vault(session, each.opened.vault_id)
                    ref = VaultRef(tenant=tenant, vault_id=vault.id, account=vault.account)
                    broken.append((ref, each.opened.asset))
            unread = await store.find_unread(session, self._chain, [ref.account for ref, _ in broken])
        broken = [each for each in broken if each[0].account not in unread][:BREAKS_MAX]
        told = await self._source.balances(block.hash, [(ref.account, asset) for ref, asset in broken])
        for (ref, asset), amount in zip(broken, told, strict=True):
            if amount is not None:
                await self._resolve(block, _Seen(ref=ref, asset=asset, amount=amount))

    async def _resolve(self, block: BlockRef, seen: _Seen) -> None:
        """Find the blocks that changed the holding unseen, read them with its account, and book what they bring."""
        async with self._db.read(seen.ref.tenant) as session:
            equal, states = await holdings.states_since_equal(session, seen.key, block.height)
            first = await store.first_read(session, self._chain, seen.ref.account)
        question = [(seen.ref.account, seen.asset)]
        opening = None
        heights: list[int] = []
        placed = True
        try:
            if equal is None:
                equal = await self._base(first, question)
                opening = equal.amount
            for gap in gaps_of(equal, states, seen.at(block.height)):
                most = CHANGES_MAX - len(heights)
                heights += await find_changes(gap, lambda height: self._ask(height, question), most)
            placed = len(heights) < CHANGES_MAX
        except StateUnavailable as error:
            placed = False
            self._tell("ingestion.unseen_change_not_placed", seen, error=str(error))
        kept = states[-1].amount if states else 0 if equal is None or opening is not None else equal.amount
        if kept != seen.amount and (not placed or not heights):
            # At least the difference is a state, and with that a break.
            heights.append(block.height)
        facts = [await self._read(height, question) for height in sorted(set(heights))]
        await self._book(seen, facts, opening)

    async def _base(self, first: int, question: Sequence[Question]) -> HeldAt:
        """What the account held before all that was read of it."""
        below = max(first - 1, 0)
        amount = await self._ask(first, question, before=first > 0)
        return HeldAt(height=below, before=amount, amount=amount)

    async def _ask(self, height: int, question: Sequence[Question], *, before: bool = False) -> int:
        """The balance after a block of our record, or before it; nothing where a token's contract does not tell."""
        async with self._db.read(None) as session:
            block = (await cursor.recorded(session, self._chain, height, height)).get(height)
        if block is None:
            raise StateUnavailable(chain=self._chain, height=height, reason="the block was not read")
        (amount,) = await self._source.balances(block.parent_hash if before else block.hash, question)
        return 0 if amount is None else amount

    async def _read(self, height: int, question: Sequence[Question]) -> BlockFacts:
        facts = await self._source.fetch_naming(height, question)
        if facts is None:
            raise InconsistentNode(chain=self._chain, height=height, reason="the node has its block no more")
        return facts.only(question[0][0])

    async def _book(self, seen: _Seen, facts: Sequence[BlockFacts], opening: int | None) -> None:
        """Observe the blocks as if they had named the account, and compare. Idempotent by block and place."""

        async def observe(uow: UnitOfWork) -> list[tuple[VaultId, AssetId]]:
            await cursor.hold_fence(uow, self._chain, self._fence)
            await self._demand_record(uow, [each.ref for each in facts])
            for each in facts:
                await effects.observe_block(uow, self._chain, each)
            await uow.act_for(seen.ref.tenant)
            if opening:
                await holdings.set_opening(uow, ACTOR, seen.key, opening, "held before its first block")
            return [seen.key]

        differ = await settling.settle_late(self._db, self._chain, seen.ref.tenant, observe, self._caution)
        if facts:
            blocks = [each.ref.height for each in facts]
            self._tell("ingestion.unseen_change", seen, blocks=blocks, differs=bool(differ))

    def _tell(self, event: str, seen: _Seen, **more: object) -> None:
        _log.error(
            event,
            chain=self._chain,
            account=seen.ref.account,
            asset=seen.asset.text,
            held=str(seen.amount),
            **more,
        )

    async def _demand_record(self, session: ReadSession, blocks: Sequence[BlockRef]) -> None:
        for block in blocks:
            known = (await cursor.recorded(session, self._chain, block.height, block.height)).get(
                block.height
            )
            if known is None or known.hash != block.hash:
                raise InconsistentNode(
                    chain=self._chain, height=block.height, reason="not the block of our record"
                )

    async def _move_on(self, block: BlockRef, refs: Sequence[VaultRef], *, is_last: bool) -> None:
        async with self._db.unit_of_work(None) as uow:
            await cursor.hold_fence(uow, self._chain, self._fence)
            if is_last:
                await store.end_pass(uow, self._chain, block.height)
            else:
                await store.advance(uow, self._chain, block.height, refs[-1].account)
