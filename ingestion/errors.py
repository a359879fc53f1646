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


class BadRange(InvalidInput):
    """The range is empty, or reaches above what is final and ingested, where the live loop books."""

    code = "ingestion_bad_range"
    public = "This range of blocks cannot be backfilled."
