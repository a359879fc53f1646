"""How an export for a warehouse can be refused, and what its check can find."""

from __future__ import annotations

from custody.kernel.errors import Conflict, InvalidInput, InvariantViolated, NotFound, Refused, Unavailable


class WarehouseUnreadable(InvalidInput):
    """The directory holds no export of ours, or one that this version cannot go on with."""

    code = "warehouse_unreadable"
    public = "The directory holds no export that can be read."


class WarehouseFormatDiffers(Conflict):
    """The directory was begun in the other file format."""

    code = "warehouse_format_differs"
    public = "The directory holds files of another format. Go on in that one, or take an empty directory."


class WarehouseSourceDiffers(Conflict):
    """The directory holds entries of another database, or of a past that this database does not have."""

    code = "warehouse_source_differs"
    public = "The directory was written from another database or another past. Take an empty directory."


class WarehouseBusy(Conflict):
    """Another process writes into the directory."""

    code = "warehouse_busy"
    public = "Another export is writing into the directory. Wait for its end."


class ParquetMissing(Refused):
    """The library that writes and reads Parquet is not installed."""

    code = "parquet_missing"
    public = "Parquet needs pyarrow, which is not installed: pip install 'custody-platform[warehouse]'."


class StandbyRefused(Unavailable):
    """The database is a standby, which does not know which transactions of its primary are still running."""

    code = "standby_refused"
    public = "A standby cannot tell which batches are complete. Export from the primary."


class EntriesArchived(Refused):
    """Entries that were never exported have left the database. `archived_to` says where their transfers are."""

    code = "entries_archived"
    public = "Entries that this directory does not hold have been archived. Begin an export before months are archived."


class EntriesMissing(InvariantViolated):
    """A batch has not as many transfers as it says."""

    code = "entries_missing"
    public = "A batch of the ledger does not hold the transfers that it counts."


class WarehouseFlawed(InvariantViolated):
    """A file of the export is not what was written, or the entries in it do not make books."""

    code = "warehouse_flawed"
    public = "The export does not hold what it should."

    def __init__(self, differs: str, *, file: str, **values: object) -> None:
        """What is wrong, and the file in which it was seen."""
        super().__init__(differs, file=file, **values)


class UnknownTenant(NotFound):
    """No tenant has this number."""

    code = "unknown_tenant"
    public = "There is no such tenant."
