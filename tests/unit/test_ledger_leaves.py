"""The tree over a batch, against RFC 6962's own definition and its published vectors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from hashlib import sha256
from uuid import UUID

import pytest

from custody.ledger.leaves import FIELDS, leaf_hash, node_hash, root, transfer_encoding

# The seven inputs and roots of the Certificate Transparency reference tests.
INPUTS = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243")]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
]
ROW = {
    "tenant_id": 7,
    "id": UUID(int=1),
    "chain_id": UUID(int=2),
    "kind": "transfer",
    "code": "deposit",
    "reference": UUID(int=3),
    "debit_account": UUID(int=4),
    "credit_account": UUID(int=5),
    "posted": Decimal("5.00E+6"),
    "pending": 0,
    "target_id": None,
    "debit_version": 8,
    "debit_balance": Decimal(2**255),
    "debit_held": 0,
    "credit_version": 9,
    "credit_balance": -3,
    "credit_held": 0,
    "booked_at": datetime(2030, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    "effective_at": datetime(2030, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
}


def by_definition(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + by_definition(leaves[:split]) + by_definition(leaves[split:])).digest()


def test_the_root_is_that_of_the_published_vectors() -> None:
    leaves = [leaf_hash(data) for data in INPUTS]
    assert [root(leaves[:n]).hex() for n in range(1, len(leaves) + 1)] == ROOTS


def test_the_root_is_the_rfcs_for_every_size() -> None:
    leaves = [leaf_hash(bytes([n % 256])) for n in range(130)]
    for size in range(1, len(leaves) + 1):
        assert root(leaves[:size]) == by_definition(leaves[:size]), size


def test_no_leaves_have_no_root() -> None:
    with pytest.raises(ValueError, match="no leaves"):
        root([])


def test_a_node_is_not_a_leaf_of_the_same_bytes() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert node_hash(left, right) != leaf_hash(left + right)


def test_the_encoding_is_what_the_description_says() -> None:
    ids = ["00000000-0000-0000-0000-00000000000" + str(n) for n in range(1, 6)]
    assert transfer_encoding(ROW).decode() == (
        f"ledger-transfer-v1|7|{ids[0]}|{ids[1]}|transfer|deposit|{ids[2]}|{ids[3]}|{ids[4]}|5000000|0||8|{2**255}|0|9|-3|0|"
        "1893456000000001|1893456000000000"
    )


def test_every_field_changes_the_encoding() -> None:
    for name in FIELDS:
        value = ROW[name]
        other = datetime(2031, 1, 1, tzinfo=UTC) if isinstance(value, datetime) else 77
        assert transfer_encoding({**ROW, name: other}) != transfer_encoding(ROW), name
