"""What a row of the export holds: one entry, which is one leg of a transfer. Pure.

`docs/warehouse.md` describes the same columns for readers. A column is never renamed or given another meaning; a change makes a
new format.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

Kind = Literal["int", "text", "amount", "moment"]
Entry = dict[str, Any]
"""Column to value: whole numbers, text, amounts as int, moments as aware datetimes; None where a column may be empty."""

COLUMNS: Final[Mapping[str, Kind]] = {
    "tenant_id": "int",
    "batch_id": "int",
    "leaf": "int",
    "side": "text",
    "transfer_id": "text",
    "chain_id": "text",
    "target_id": "text",
    "kind": "text",
    "code": "text",
    "reference": "text",
    "account_id": "text",
    "account_kind": "text",
    "account_owner": "text",
    "normal_side": "text",
    "counter_account": "text",
    "asset": "text",
    "decimals": "int",
    "signed": "amount",
    "signed_pending": "amount",
    "balance": "amount",
    "held": "amount",
    "version": "int",
    "booked_at": "moment",
    "effective_at": "moment",
}
"""Columns in order. `signed` and `signed_pending` are positive for a debit and sum to zero over the two entries of a transfer."""
EMPTY: Final = frozenset(("target_id", "account_owner"))
"""Columns that may be empty."""


def legs(row: Mapping[str, Any]) -> tuple[Entry, Entry]:
    """The two entries of a transfer, the debit first."""
    return _leg(row, "debit", "credit", 1), _leg(row, "credit", "debit", -1)


def _leg(row: Mapping[str, Any], side: str, other: str, sign: int) -> Entry:
    target, owner = row["target_id"], row[f"{side}_owner"]
    return {
        "tenant_id": row["tenant_id"],
        "batch_id": row["batch_id"],
        "leaf": row["leaf"],
        "side": side,
        "transfer_id": str(row["id"]),
        "chain_id": str(row["chain_id"]),
        "target_id": None if target is None else str(target),
        "kind": row["kind"],
        "code": row["code"],
        "reference": str(row["reference"]),
        "account_id": str(row[f"{side}_account"]),
        "account_kind": row[f"{side}_kind"],
        "account_owner": None if owner is None else str(owner),
        "normal_side": row[f"{side}_normal_side"],
        "counter_account": str(row[f"{other}_account"]),
        "asset": row["asset"],
        "decimals": row["decimals"],
        "signed": sign * int(row["posted"]),
        "signed_pending": sign * int(row["pending"]),
        "balance": int(row[f"{side}_balance"]),
        "held": int(row[f"{side}_held"]),
        "version": row[f"{side}_version"],
        "booked_at": row["booked_at"],
        "effective_at": row["effective_at"],
    }


def dump_entry(entry: Entry) -> dict[str, Any]:
    """The entry as JSON has it: amounts as decimal strings, moments as ISO 8601 in UTC with microseconds."""
    return {name: _dump(COLUMNS[name], value) for name, value in entry.items()}


def load_entry(line: Mapping[str, Any]) -> Entry:
    """The entry of a JSON object or of a Parquet row. Raises ValueError when it is not one."""
    if list(line) != list(COLUMNS):
        raise ValueError("the columns are not those of an entry")
    return {name: _load(name, line[name]) for name in COLUMNS}


def _dump(kind: Kind, value: Any) -> Any:
    if kind == "amount":
        return str(value)
    if kind == "moment":
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return value


def _load(name: str, value: Any) -> Any:
    kind = COLUMNS[name]
    if value is None and name in EMPTY:
        return None
    if kind == "int" and type(value) is int:
        return value
    if kind == "moment" and isinstance(value, datetime):
        return value
    if kind != "int" and isinstance(value, str):
        if kind == "amount" and str(int(value)) == value:
            return int(value)
        if kind != "amount":
            return datetime.fromisoformat(value) if kind == "moment" else value
    raise ValueError(f"{name} cannot be {value!r}")
