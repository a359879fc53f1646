"""Why a worker stops. Each of these ends the process with a non-zero code and a sentence; none is skipped."""

from __future__ import annotations

from custody.kernel.errors import Conflict, InvalidInput, InvariantViolated, Unavailable


class UnreadableLedger(InvariantViolated):
    """The node's data is not the XDR or JSON that the chain's protocol defines."""

    code = "ingestion_unreadable_ledger"
    public = "The chain's data cannot be decoded."


class BrokenHashChain(InvariantViolated):
    """A ledger does not continue the one below it, or a hash of its header is not that of what it stands for.

    Stellar knows no reorganisations.
    """

    code = "ingestion_broken_hash_chain"
    public = "The chain's blocks do not follow from each other."


class ReorgTooDeep(InvariantViolated):
    """The chain and our record share no block within what we keep."""

    code = "ingestion_reorg_too_deep"
    public = "The chain was reorganised deeper than the blocks that are kept."


class UnprovedTransaction(InvariantViolated):
    """A transaction that touches our accounts reports other movements than its entries show."""

    code = "ingestion_unproved_transaction"
    public = "A transaction's events do not equal its balance changes."


class HistoryLost(InvariantViolated):
    """The node no longer has the block that comes next."""

    code = "ingestion_history_lost"
    public = "The node no longer keeps the next block; history must be filled from an archive."


class LakeUnusable(InvariantViolated):
    """A lake's `.config.json` is missing, cannot be read, or describes a lake that we do not read. Source: SEP-54."""

    code = "ingestion_lake_unusable"
    public = "The ledger lake is not one that can be read."


class LakeGap(InvariantViolated):
    """A lake lacks an object although it has newer ones. It is never skipped."""

    code = "ingestion_lake_gap"
    public = "The ledger lake has a hole where the next ledgers should be."


class LakeBehind(Unavailable):
    """A lake does not have a ledger yet."""

    code = "ingestion_lake_behind"
    public = "The ledger lake does not have the next ledgers yet."


class LakeUnreachable(Unavailable):
    """The store of a lake gave no answer, or refused one."""

    code = "ingestion_lake_unreachable"
    public = "The store of the ledger lake cannot be reached."


class ProvidersDisagree(InvariantViolated):
    """Two providers of one network name different blocks at one height: one of them is on another chain, or lies."""

    code = "ingestion_providers_disagree"
    public = "Two providers of the chain contradict each other."


class ProviderSlow(Unavailable):
    """A provider did not answer within its time."""

    code = "ingestion_provider_slow"
    public = "The chain's provider did not answer in time."


class Unusable(Unavailable):
    """What a provider gave must not be booked. It may give better later, and another one may give it now."""

    code = "ingestion_unusable"
    public = "What the chain's provider gave cannot be booked."


class TagMissing(Unavailable):
    """A node knows the tag of the chain's finality rule and names no block by it, as one does that has just begun to follow."""

    code = "ingestion_tag_missing"
    public = "The node names no final block yet."


class NodeLacksTag(InvariantViolated):
    """A node does not know the tag of the chain's finality rule: nothing would ever be final."""

    code = "ingestion_node_lacks_tag"
    public = "The node does not offer the tag that the finality rule names."


class Unprovable(InvariantViolated):
    """A source gives less than what is needed to prove a transaction that touches our accounts."""

    code = "ingestion_unprovable"
    public = "A transaction that concerns us cannot be proved by this source."


class InconsistentNode(Unavailable):
    """The node contradicted itself between two calls (a block changed under our hands); asking again helps."""

    code = "ingestion_inconsistent_node"
    public = "The node's answers do not fit together; they are asked for again."


class FenceLost(InvariantViolated):
    """Another worker took over this chain; this one may write nothing more."""

    code = "ingestion_fence_lost"
    public = "Another worker has taken over this chain."


class CursorMoved(InvariantViolated):
    """The cursor is not where this worker left it although it holds the fence."""

    code = "ingestion_cursor_moved"
    public = "The chain's cursor was moved by somebody else."


class ReadingChanged(InvariantViolated):
    """The configuration reads value inside calls of ingested blocks in another way (`inner_value`, `inner_value_from`): what was
    credited once would be seen again as another deposit."""

    code = "ingestion_reading_changed"
    public = "Blocks that are ingested would be read in another way."


class MissingBlock(InvariantViolated):
    """A block of a backfill's range is not to be had from its source. What lies below it is booked; the backfill can resume."""

    code = "ingestion_missing_block"
    public = "A block of the range is missing at the source."


class BackfillTaken(Conflict):
    """Another process carries this backfill out."""

    code = "ingestion_backfill_taken"
    public = "Another process carries this backfill out."


class BackfillOverlaps(Conflict):
    """An unfinished backfill of the same accounts covers a part of this range."""

    code = "ingestion_backfill_overlaps"
    public = "An unfinished backfill covers a part of this range."


class ChainHalted(Conflict):
    """The chain was reorganised below finality and waits for a person: nothing of it is booked."""

    code = "ingestion_chain_halted"
    public = "The chain is halted: it was reorganised below finality."


class BreakNotOurs(Conflict):
    """No open break says that the chain has more than the books, so that there is nothing to book by hand."""

    code = "ingestion_break_not_open"
    public = "This break is not open, or the chain does not have more than the books."


class BadRange(InvalidInput):
    """The range is empty, or reaches above what is final and ingested, where the live loop books."""

    code = "ingestion_bad_range"
    public = "This range of blocks cannot be backfilled."


class StateUnavailable(Unusable):
    """The node no longer has the balances of this block, so that what calls sent cannot be seen: an archive node is needed."""

    code = "ingestion_state_unavailable"
    public = "The node no longer knows the balances of this block."
