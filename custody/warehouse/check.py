"""Check an export from its files alone: what the manifest says of them, and that the entries in them make books.

It shows that the files are whole and consistent, not that nobody wrote consistent lies: for that, the seals' own export is
checked (`custody audit verify --export`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

from custody.kernel.ids import TenantId
from custody.warehouse import files, manifest
from custody.warehouse.errors import WarehouseFlawed, WarehouseUnreadable
from custody.warehouse.model import Checked, ExportedFile, FileFormat, TenantExport
from custody.warehouse.rows import Entry

_SHARED: Final = (
    "tenant_id", "batch_id", "leaf", "transfer_id", "chain_id", "target_id", "kind", "code", "reference", "asset", "decimals",
    "booked_at", "effective_at",
)  # fmt: skip
"""What the two entries of a transfer have in common."""
_FIXED: Final = ("account_kind", "account_owner", "normal_side", "asset", "decimals")
"""What all entries of an account have in common."""
_EVERY: Final = 100_000
"""How often somebody who watches is told."""


@dataclass(slots=True, kw_only=True)
class _Account:
    """An account as its entries have made it so far."""

    fixed: tuple[object, ...]
    version: int = 0
    balance: int = 0
    held: int = 0


@dataclass(slots=True)
class _Books:
    """One tenant's accounts, entry by entry."""

    tenant: TenantId
    file: str = ""
    accounts: dict[str, _Account] = field(default_factory=dict)
    entries: int = 0
    rows: int = 0
    batches: int = 0
    first_batch: int = 0
    last_batch: int = 0
    leaf: int = 0

    def begin(self, name: str) -> None:
        """The next file."""
        self.file = name
        self.rows = self.batches = self.first_batch = self.last_batch = 0

    def take(self, debit: Entry, credit: Entry) -> None:
        """The next transfer."""
        self._check_pair(debit, credit)
        self._check_place(debit)
        for entry in (debit, credit):
            self._check_account(entry)
        self.entries += 2
        self.rows += 2

    def _check_pair(self, debit: Entry, credit: Entry) -> None:
        if (debit["side"], credit["side"]) != ("debit", "credit"):
            self._fail(debit, "a debit and a credit are expected")
        apart = [name for name in _SHARED if debit[name] != credit[name]]
        if apart:
            self._fail(debit, f"the two entries differ in {apart[0]}")
        crossed = (credit["account_id"], debit["account_id"])
        if (debit["counter_account"], credit["counter_account"]) != crossed or crossed[0] == crossed[1]:
            self._fail(debit, "the two entries do not name each other's account")
        if debit["signed"] + credit["signed"] or debit["signed_pending"] + credit["signed_pending"]:
            self._fail(debit, "the two entries do not sum to zero")
        if debit["tenant_id"] != self.tenant:
            self._fail(debit, "it is another tenant's")

    def _check_place(self, entry: Entry) -> None:
        """Within a batch, leaves count up from 0."""
        if not self.batches or entry["batch_id"] != self.last_batch:
            self.batches, self.leaf = self.batches + 1, 0
            self.first_batch = self.first_batch or entry["batch_id"]
            self.last_batch = entry["batch_id"]
        if entry["leaf"] != self.leaf:
            self._fail(entry, f"leaf {self.leaf} of batch {self.last_batch} is missing")
        self.leaf += 1

    def _check_account(self, entry: Entry) -> None:
        """Versions without a gap; balance and holds follow from the entry before."""
        fixed = tuple(entry[name] for name in _FIXED)
        account = self.accounts.setdefault(entry["account_id"], _Account(fixed=fixed))
        if account.fixed != fixed:
            self._fail(entry, "the account is described otherwise than before")
        if entry["version"] != account.version + 1:
            self._fail(entry, f"version {account.version + 1} of account {entry['account_id']} is missing")
        grows = entry["side"] == entry["normal_side"]
        sign = 1 if entry["side"] == "debit" else -1
        moved, reserved = sign * entry["signed"], sign * entry["signed_pending"]
        balance = account.balance + (moved if grows else -moved)
        held = account.held + (0 if grows else reserved)
        if (entry["balance"], entry["held"]) != (balance, held):
            self._fail(entry, "balance or held amount do not follow from the account's entry before")
        account.version, account.balance, account.held = entry["version"], balance, held

    def _fail(self, entry: Entry, differs: str) -> NoReturn:
        raise WarehouseFlawed(
            differs,
            file=self.file,
            transfer=entry["transfer_id"],
            batch=entry["batch_id"],
            leaf=entry["leaf"],
        )


def check(folder: Path, watch: Callable[[TenantId, int], None]) -> dict[TenantId, Checked]:
    """Digests, row counts, zero sums per transfer and gap-free versions per account, tenant by tenant.

    Memory grows with the number of accounts, not of entries. Raises WarehouseFlawed at the first fault, WarehouseUnreadable,
    ParquetMissing. `watch` is told how many entries are through.
    """
    held = manifest.load_manifest(folder)
    if held is None:
        raise WarehouseUnreadable("there is no manifest", directory=str(folder))
    files.demand_format(held.format)
    return {
        tenant: _check_tenant(folder, held.format, tenant, one, watch)
        for tenant, one in sorted(held.tenants.items())
    }


def _check_tenant(
    folder: Path,
    form: FileFormat,
    tenant: TenantId,
    one: TenantExport,
    watch: Callable[[TenantId, int], None],
) -> Checked:
    books = _Books(tenant)
    for file in one.files:
        _check_bytes(folder, file)
        books.begin(file.name)
        for debit, credit in _pairs(files.read_entries(folder / file.name, form), file):
            books.take(debit, credit)
            if books.entries % _EVERY == 0:
                watch(tenant, books.entries)
        told = (file.rows, file.batches, file.first_batch, file.last_batch)
        found = (books.rows, books.batches, books.first_batch, books.last_batch)
        if told != found:
            raise WarehouseFlawed(
                "rows, batches, first and last batch are not as listed",
                file=file.name,
                listed=told,
                found=found,
            )
    watch(tenant, books.entries)
    return Checked(
        files=len(one.files),
        entries=books.entries,
        transfers=books.entries // 2,
        accounts=len(books.accounts),
    )


def _check_bytes(folder: Path, file: ExportedFile) -> None:
    try:
        found = files.digest(folder / file.name)
    except FileNotFoundError as error:
        raise WarehouseFlawed("the file is missing", file=file.name) from error
    if found != (file.size, file.sha256):
        raise WarehouseFlawed("size or digest are not as listed", file=file.name)


def _pairs(entries: Iterator[Entry], file: ExportedFile) -> Iterator[tuple[Entry, Entry]]:
    """Entries two by two."""
    for first in entries:
        second = next(entries, None)
        if second is None:
            raise WarehouseFlawed("the last transfer has one entry only", file=file.name)
        yield first, second
