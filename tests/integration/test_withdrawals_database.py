"""What the database refuses by itself, whatever code forgets."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from custody.db.session import Database
from custody.kernel.ids import TenantId
from custody.policy import service as policies
from custody.policy.errors import PolicyRewound, PolicyVersionUnknown
from tests.fakes.withdrawal_world import ETH, World, make_policy


@pytest.fixture
async def world(database: Database, tenant: TenantId) -> World:
    return await World(db=database, tenant=tenant).open()


async def refuses(world: World, sql: str) -> str:
    with pytest.raises(DBAPIError) as caught:
        async with world.db.unit_of_work(world.tenant) as uow:
            await uow.conn.execute(text(sql))
    return str(caught.value.orig)


async def change_as_owner(world: World, admin_dsn: str, sql: str) -> str:
    """The schema's owner may update any column; only triggers and checks stand in the way."""
    owner = Database(admin_dsn)
    try:
        with pytest.raises(DBAPIError) as caught:
            async with owner.unit_of_work(world.tenant) as uow:
                await uow.conn.execute(text(sql))
        return str(caught.value.orig)
    finally:
        await owner.close()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE withdrawals SET destination = 'elsewhere'",
        "UPDATE withdrawals SET amount = amount + 1",
        "UPDATE withdrawals SET intent = 'x'",
        "UPDATE withdrawals SET expires_at = now() + interval '1 year'",
        "DELETE FROM withdrawals",
        "UPDATE withdrawal_attempts SET sequence = sequence + 1",
        "UPDATE withdrawal_attempts SET tx = 'other'",
        "UPDATE withdrawal_attempts SET tx_hash = 'other'",
        "DELETE FROM withdrawal_attempts",
        "UPDATE approvals SET word = 'reject'",
        "DELETE FROM approvals",
        "UPDATE approval_policies SET body = '{}'",
    ],
)
async def test_what_was_signed_cannot_change_not_even_by_the_owner(world: World, admin_dsn: str, sql: str):
    made = await world.request(approve=("alice", "bob"))
    await world.advance(made)
    await refuses(world, sql)
    answer = await change_as_owner(world, admin_dsn, sql)
    assert "cannot change" in answer or "is history" in answer


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("UPDATE withdrawals SET state = 'failed'", "reason_when_unpaid"),
        ("UPDATE withdrawals SET state = 'paid'", "state_known"),
        ("UPDATE withdrawals SET approved_at = NULL", "approved_before_signing"),
        ("UPDATE withdrawal_attempts SET state = 'reserved'", "bytes_once_signed"),
        ("UPDATE withdrawal_attempts SET state = 'included'", "facts_once_included"),
        ("UPDATE withdrawal_attempts SET holds_slot = false", "slot_held_while_usable"),
    ],
)
async def test_states_and_their_facts_go_together(world: World, sql: str, rule: str):
    made = await world.request(approve=("alice", "bob"))
    await world.advance(made)
    assert rule in await refuses(world, sql)


COPY = """
INSERT INTO withdrawal_attempts (tenant_id, id, withdrawal_id, vault_id, chain, number, state, sequence, holds_slot,
  exclusive, max_ledger, max_time, fee_bid, priority_fee, sends, last_answer, changed_at)
SELECT tenant_id, gen_random_uuid(), {withdrawal}, vault_id, chain, 2, 'reserved', {sequence}, true, {exclusive},
  max_ledger, max_time, fee_bid, priority_fee, 0, '', now() FROM withdrawal_attempts
"""


@pytest.mark.parametrize(
    ("withdrawal", "sequence", "exclusive", "rule"),
    [
        ("gen_random_uuid()", "sequence", "false", "uq_withdrawal_attempts_slot"),
        ("withdrawal_id", "sequence + 1", "false", "uq_withdrawal_attempts_open"),
        ("gen_random_uuid()", "sequence + 1", "true", "uq_withdrawal_attempts_exclusive"),
    ],
)
async def test_one_holder_per_slot_one_open_attempt_one_stellar_transaction(
    world: World, withdrawal: str, sequence: str, exclusive: str, rule: str
):
    made = await world.request(approve=("alice", "bob"))
    await world.advance(made)
    sql = COPY.format(withdrawal=withdrawal, sequence=sequence, exclusive=exclusive)
    assert rule in await refuses(world, sql)


async def test_evm_attempts_stand_side_by_side(world: World):
    for _ in range(3):
        made = await world.request(ETH, approve=("alice", "bob"))
        assert await world.advance(made) == "broadcasting"


async def test_a_policy_is_adopted_once_and_never_goes_back(world: World):
    newer = make_policy(threshold=3, version=2)
    async with world.db.unit_of_work(None) as uow:
        assert await policies.adopt(uow, world.policy) is False
        assert await policies.adopt(uow, newer) is True
        assert await policies.current(uow) == newer
        assert await policies.at_version(uow, 1) == world.policy
    for bad in (world.policy, make_policy(threshold=1, version=2)):
        with pytest.raises(PolicyRewound):
            async with world.db.unit_of_work(None) as uow:
                await policies.adopt(uow, bad)
    with pytest.raises(PolicyVersionUnknown):
        async with world.db.read(None) as session:
            await policies.at_version(session, 9)


async def test_withdrawal_under_an_older_policy_shows_who_was_asked(world: World):
    made = await world.request(approve=("alice",))
    async with world.db.unit_of_work(None) as uow:
        await policies.adopt(uow, make_policy(threshold=3, version=2))
    assert (await world.view(made)).verdict.missing == 1
