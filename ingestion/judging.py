"""What is final at a tip, by the chain's rule and by those of single assets, and which large credits providers agree on.

The rule itself is `reorg.FinalityRule`. A tag is a node's word, so it counts only for the chain that we have: the node must name
our newest block at its height, and where the tagged block is below it, our block there. What was vouched for stays so when the
tag moves back; only a reorganisation takes it back.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from custody.db.session import Database
from custody.deposits import service as deposits
from custody.deposits.model import Caution, Deposit
from custody.identity import service as identity
from custody.kernel.assetid import ChainId
from custody.kernel.errors import InvariantViolated
from ingestion import cursor
from ingestion.finality import Standing, Terms
from ingestion.metrics import Metrics
from ingestion.model import BlockRef
from ingestion.ports import Vouching
from ingestion.reorg import NOTHING_FINAL

ASKED_MAX = 100
"""Blocks about which providers are asked at once; what remains waits for the next time."""

_log = structlog.get_logger(__name__)


class Finality:
    """Judges one chain's tips for the worker that follows it."""

    def __init__(
        self, db: Database, chain: ChainId, terms: Terms, vouching: Vouching | None, metrics: Metrics
    ) -> None:
        """`vouching` answers for tags and hashes; needed where the terms ask for either."""
        if vouching is None and (terms.tags or terms.caution({}).asks_for_agreement):
            raise InvariantViolated("nobody can vouch for this chain's blocks", chain=chain)
        self._db = db
        self._chain = chain
        self._terms = terms
        self._vouching = vouching
        self._metrics = metrics
        self._tagged: dict[str, int] = {}
        self._waiting: frozenset[str] = frozenset()
        self._judged: tuple[tuple[str, Standing], Standing] | None = None

    def known(self, tip: BlockRef, agreed: frozenset[str] = frozenset()) -> Standing:
        """What is final at this tip by what has been heard so far. Asks nobody."""
        final = {
            asset: _or_nothing(rule.reached(tip.height, self._tagged))
            for asset, rule in self._terms.assets.items()
        }
        return Standing(
            reached=self._terms.rule.reached(tip.height, self._tagged),
            caution=self._terms.caution(final, agreed),
        )

    async def ask(self, tip: BlockRef) -> Standing:
        """What is final at this tip, after nodes were asked for their tags and about blocks of large credits.

        No transaction may be open. Raises what the source raises when nobody answers.
        """
        for tag in sorted(self._terms.tags):
            await self._hear(tag, tip)
        standing = self.known(tip)
        self._metrics.final(_or_nothing(standing.reached))
        if not standing.caution.asks_for_agreement or standing.reached is None:
            return standing
        place = tip.hash, standing
        if self._judged is None or self._judged[0] != place or self._waiting:
            agreed = await self._agreed(standing.reached, standing.caution)
            self._judged = place, self.known(tip, agreed)
        return self._judged[1]

    def rewound(self, height: int) -> None:
        """Blocks above this height were replaced: nobody has vouched for those that follow."""
        self._tagged = {tag: min(vouched, height) for tag, vouched in self._tagged.items()}

    async def _hear(self, tag: str, tip: BlockRef) -> None:
        if self._vouching is None:
            return
        head = await self._vouching.tagged(tag, tip)
        if head is None or not await self._is_ours(tip, head.height, head.hash):
            # A reorganisation is under way, or the node is behind: the next step shows it.
            _log.info("ingestion.tag_of_another_chain", chain=self._chain, tag=tag, height=tip.height)
            return
        height, before = min(head.height, tip.height), self._tagged.get(tag, NOTHING_FINAL)
        if height < before:
            _log.warning("ingestion.tag_moved_back", chain=self._chain, tag=tag, height=height, before=before)
        self._tagged[tag] = max(height, before)

    async def _is_ours(self, tip: BlockRef, height: int, block_hash: str) -> bool:
        """Whether the tagged block is one of ours. Above our tip it is not read yet: then the node's block at the tip decides."""
        if height >= tip.height:
            return height > tip.height or block_hash == tip.hash
        async with self._db.read(None) as session:
            kept = await cursor.kept_blocks(session, self._chain, up_to=height, limit=1)
        # Below our first block nothing is kept, and nothing is booked.
        return kept.get(height, block_hash) == block_hash

    async def _agreed(self, reached: int, caution: Caution) -> frozenset[str]:
        """The hashes of the large credits' blocks that enough providers name. Tells of those that wait."""
        large = [each for each in await self._unbooked(reached) if _is_large(each, caution)]
        asked = {each.transfer.block_hash: each.transfer.height for each in large}
        asked = dict(list(asked.items())[:ASKED_MAX])
        named: Mapping[str, frozenset[str]] = {}
        if asked and self._vouching is not None:
            named = await self._vouching.witnesses(asked)
        agreed = frozenset(
            each for each in asked if len(named.get(each, frozenset())) >= self._terms.providers
        )
        waiting = [each for each in large if each.transfer.block_hash not in agreed]
        self._metrics.waits_for_agreement(len(waiting))
        self._tell(waiting, named)
        return agreed

    async def _unbooked(self, reached: int) -> list[Deposit]:
        async with self._db.read(None) as session:
            tenants = await identity.list_tenants(session)
        found: list[Deposit] = []
        for tenant in tenants:
            async with self._db.read(tenant) as session:
                found += await deposits.find_waiting(session, self._chain, reached)
        return found

    def _tell(self, waiting: list[Deposit], named: Mapping[str, frozenset[str]]) -> None:
        """Once for each credit."""
        for each in waiting:
            if str(each.id) not in self._waiting:
                _log.error(
                    "ingestion.credit_waits",
                    chain=self._chain,
                    deposit=str(each.id),
                    height=each.transfer.height,
                    block=each.transfer.block_hash,
                    named_by=sorted(named.get(each.transfer.block_hash, ())),
                    wanted=self._terms.providers,
                )
        self._waiting = frozenset(str(each.id) for each in waiting)


def _is_large(deposit: Deposit, caution: Caution) -> bool:
    seen = deposit.transfer
    return caution.waits_for_agreement(seen) and not caution.waits_for_finality(seen)


def _or_nothing(height: int | None) -> int:
    return NOTHING_FINAL if height is None else height
