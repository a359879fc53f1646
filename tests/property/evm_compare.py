"""What must be equal at a quiet point of a walk: balances, history and blocks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import text

from custody.deposits import service as deposits
from custody.deposits.model import Deposit
from custody.kernel.assetid import AssetId
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.ledger.model import Reverse
from tests.fakes.contracts import call_data
from tests.integration.evm_stage import ETH

if TYPE_CHECKING:
    from tests.property.evm_walk import World

CONFIRMATIONS = 3
"""Blocks above one before it is final."""
KEPT = {
    "ledger_transfers": "id",
    "audit_entries": "sequence, action, object_id",
    "ingestion_blocks": "height, hash",
    "deposits": "id",
}
"""Nothing of these may ever be gone, or be another."""


async def compare(world: World) -> None:
    """The ledger equals the chain at the final height, and its history tells how it came to that."""
    desk = world.desk
    final = await desk.final_height()
    assert final == await world.height() - CONFIRMATIONS
    for wallet, address in world.addresses.items():
        for asset in (ETH, world.usd):
            held = await _held_on_chain(world, address.address, asset, final)
            async with desk.db.read(desk.tenant) as session:
                key = postings.vault_account(address.vault_id, asset)
                booked = (await ledger.balance(session, key)).posted
            assert (await desk.owed(wallet, asset), booked) == (held, held), f"{asset} of {address.address}"
            assert await desk.suspended(asset) == 0
    async with desk.db.read(desk.tenant) as session:
        assert set((await ledger.trial_balance(session)).values()) <= {0}
    await _compare_history(world)
    await _compare_blocks(world)


async def _held_on_chain(world: World, address: str, asset: AssetId, height: int) -> int:
    if asset == ETH:
        return int(await world.outsider.call("eth_getBalance", address, hex(height)), 16)
    call = {"to": world.token, "data": call_data("balanceOf(address)", address)}
    return int(await world.outsider.call("eth_call", call, hex(height)), 16)


async def _compare_history(world: World) -> None:
    """One posting for each inclusion that was credited, its mirror where it was taken back, nothing else, and nothing gone."""
    now = await _rows(world)
    for table, before in world.kept.items():
        assert before <= now[table], f"rows of {table} are gone"
    world.kept = now
    expected: set[str] = set()
    mirrors = 0
    transfers = now["ledger_transfers"]
    found = await _deposits(world)
    for deposit in found:
        assert deposit.state in ("credited", "orphaned", "reversed"), deposit
        for number in range(1, deposit.inclusion + 1):
            included = replace(deposit, inclusion=number)
            (mirror,) = postings.deposit_reversed(deposit_id=included.posting_id)
            assert isinstance(mirror, Reverse)
            credited, mirrored = str(mirror.transfer_id), str(mirror.id)
            was_credited = credited in transfers
            if number == deposit.inclusion:
                assert was_credited == (deposit.state != "orphaned"), deposit
            is_mirrored = was_credited and not (number == deposit.inclusion and deposit.state == "credited")
            assert (mirrored in transfers) == is_mirrored, f"inclusion {number} of {deposit}"
            expected |= {credited} if was_credited else set()
            expected |= {mirrored} if is_mirrored else set()
            mirrors += is_mirrored
    assert transfers == expected, "postings that no deposit explains"
    world.done["mirrored"] = mirrors
    places = [(each.transfer.tx_hash, each.transfer.ordinal) for each in found]
    assert len(set(places)) == len(places), "one payment is two deposits"


async def _deposits(world: World) -> list[Deposit]:
    async with world.desk.db.read(world.desk.tenant) as session:
        return await deposits.list_deposits(session, limit=1_000_000)


async def _compare_blocks(world: World) -> None:
    """Our record is the node's chain, without a gap; what was replaced is still there."""
    async with world.desk.db.read(None) as session:
        found = await session.conn.execute(
            text("SELECT height, hash FROM ingestion_blocks WHERE canonical ORDER BY height")
        )
        ours = {row.height: row.hash for row in found}
    assert list(ours) == list(range(min(ours), max(ours) + 1))
    for height, name in ours.items():
        block = await world.outsider.call("eth_getBlockByNumber", hex(height), False)
        assert block["hash"] == name, f"block {height}"


async def _rows(world: World) -> dict[str, set[str]]:
    found = {}
    async with world.desk.db.read(world.desk.tenant) as session:
        for table, columns in KEPT.items():
            rows = await session.conn.execute(text(f"SELECT {columns} FROM {table}"))
            found[table] = {" ".join(map(str, row)) for row in rows}
    return found
