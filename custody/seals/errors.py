"""How the proof of the ledger's history can fail."""

from __future__ import annotations

from custody.kernel.errors import InvalidInput, InvariantViolated, NotFound, Refused, Unavailable


class HistoryAltered(InvariantViolated):
    """A row of history is not what was sealed. `values` name tenant, table, row and what differs."""

    code = "history_altered"
    public = "The ledger's history does not verify."

    def __init__(self, *, tenant: int, table: str, row: object, differs: str) -> None:
        """The first bad row, as far as the checker came."""
        super().__init__(tenant=tenant, table=table, row=row, differs=differs)


class SealClockBehind(InvariantViolated):
    """The database counts transactions from below the last seal: it was restored from a logical dump into a fresh cluster.

    Batches booked now could fall into ranges that are sealed already. Raise the counter above the last seal's (pg_resetwal -x
    and -e) before anything is booked.
    """

    code = "seal_clock_behind"
    public = "The database's transaction counter is behind the last seal."


class CheckpointUntrusted(InvariantViolated):
    """The signature holds, but under a key that nobody vouches for."""

    code = "checkpoint_untrusted"
    public = "A checkpoint is signed by a key that is not trusted."


class NotSealed(Refused):
    """There is no signed seal over it yet."""

    code = "not_sealed"
    public = "It is not sealed and signed yet. Seal first, or wait for the worker."


class NotInTree(NotFound):
    """The wallet has no balance in this asset at this checkpoint."""

    code = "not_in_liabilities"
    public = "The wallet had no balance in this asset at the checkpoint."


class UnreadableExport(InvalidInput):
    """The directory does not hold an export of ours, or part of it is missing."""

    code = "unreadable_export"
    public = "The export cannot be read."


class NegativeBalance(InvariantViolated):
    """A wallet is below zero in the sealed history, so that no honest sum of liabilities can be made of it."""

    code = "negative_balance"
    public = "A wallet's sealed balance is below zero."


class MonthNotOver(Refused):
    """The month has not ended, so that more can be booked in it."""

    code = "month_not_over"
    public = "Only months that are over can be archived."


class MonthNotSealed(Refused):
    """Batches of the month are under no signed seal yet."""

    code = "month_not_sealed"
    public = "The month has batches that are not under a signed checkpoint yet. Seal first, or wait for the worker."


class MonthNotPartitioned(Refused):
    """Transfers of the month or of one before lie in the default partition, which cannot be taken out."""

    code = "month_not_partitioned"
    public = "Transfers of that time lie in the default partition, because nobody had prepared their month's."


class LedgerInUse(Unavailable):
    """Writers did not pause for long enough to take the partition out."""

    code = "ledger_in_use"
    public = "The ledger is in use by a long transaction. Nothing was taken out; run the same command again."


class ArchiveDiffers(InvariantViolated):
    """The archive's files do not hold the month as the database recorded it."""

    code = "archive_differs"
    public = "The archive does not hold what the database says was archived."
