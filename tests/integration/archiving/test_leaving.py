"""Archiving: what is over, sealed and signed leaves the database, verified from its files; everything else stays."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from custody.db.session import Database
from custody.kernel.ids import TenantId, derived_uuid, new_uuid
from custody.kernel.money import Amount
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.ledger.model import AccountKey, Transfer, TransferCode
from custody.payouts import service as payouts
from custody.payouts.model import RailEvent
from custody.seals import archiving, execution, export, service
from custody.seals.archives import begin_of
from custody.seals.errors import (
    ArchiveDiffers,
    HistoryAltered,
    LedgerInUse,
    MonthNotOver,
    MonthNotPartitioned,
    MonthNotSealed,
)
from custody.signing.checkpoints import message_of
from tests.fakes.archived_books import archive, figures, means_for, partitions, verify
from tests.fakes.checkpoint_desk import CheckpointDesk
from tests.fakes.faults import Crash
from tests.fakes.fiat import NOW, make_fiat
from tests.fakes.passing_months import later, let_pass, this_month
from tests.fakes.sealed_books import WALLETS, XLM, deposit, open_books, pay, post

# --- what leaves ----------------------------------------------------------------------------------------------------------


async def test_a_month_leaves_verified_recorded_and_whole(
    means: archiving.Means, database: Database, tenant: TenantId, admin_dsn: str
) -> None:
    before = await figures(database, tenant)
    (recorded,) = await archive(means)
    assert (recorded.month, recorded.batches, recorded.transfers) == (this_month(), 4, 12)
    gone = {f"ledger_transfers_{month:%Y_%m}" for month in (this_month(), later(1))}
    assert gone.isdisjoint(await partitions(admin_dsn))
    connection = await asyncpg.connect(admin_dsn)
    aside = f"ledger_archive.ledger_transfers_{this_month():%Y_%m}"
    assert await connection.fetchval(f"SELECT count(*) FROM {aside}") == 12
    for statement in (f"DELETE FROM {aside}", f"UPDATE {aside} SET posted = 1", f"TRUNCATE {aside}"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await connection.execute(statement)
    await connection.close()
    assert await figures(database, tenant) == before
    async with database.read(tenant) as session:
        assert set((await ledger.trial_balance(session)).values()) == {0}


async def test_verification_takes_archived_batches_by_their_roots_and_counts_them(
    means: archiving.Means, database: Database, tenant: TenantId
) -> None:
    assert (await verify(database, tenant)).archived == 0
    await archive(means)
    verified = await verify(database, tenant)
    assert (verified.transfers, verified.batches, verified.archived, verified.unsealed) == (3, 7, 4, 0)
    (offline,) = export.verify_export(means.folder, message_of, means.trusted).values()
    assert (offline.transfers, offline.archived) == (15, 0)


async def test_a_second_archive_goes_on_in_the_same_directory(
    means: archiving.Means, database: Database, tenant: TenantId, signer: CheckpointDesk, admin_dsn: str
) -> None:
    await archive(means)
    await let_pass(admin_dsn, 3)
    await post(database, tenant, pay(0, 1, 1))
    await execution.seal_and_sign(database, signer, tenant)
    (recorded,) = await archive(means, 3)
    assert (recorded.month, recorded.transfers) == (later(2), 3)
    held, elsewhere = await archiving.check_archives(database, tenant, means.folder)
    assert ([one.month for one in held], elsewhere) == ([this_month(), later(2)], [])
    assert (await verify(database, tenant)).archived == 7


async def test_another_directory_holds_the_rest_and_says_where_the_months_before_are(
    means: archiving.Means,
    database: Database,
    tenant: TenantId,
    signer: CheckpointDesk,
    admin_dsn: str,
    tmp_path: Path,
) -> None:
    await archive(means)
    await let_pass(admin_dsn, 3)
    await post(database, tenant, pay(0, 1, 1))
    await execution.seal_and_sign(database, signer, tenant)
    other = replace(means, folder=tmp_path / "other")
    await archive(other, 3)
    (offline,) = export.verify_export(other.folder, message_of, means.trusted).values()
    assert (offline.transfers, offline.archived) == (4, 4)
    held, elsewhere = await archiving.check_archives(database, tenant, other.folder)
    assert ([one.month for one in held], [one.month for one in elsewhere]) == ([later(2)], [this_month()])


async def test_archiving_again_finds_nothing(means: archiving.Means) -> None:
    await archive(means)
    assert await archive(means) == []


async def test_tenants_leave_together(
    means: archiving.Means,
    database: Database,
    admin: Database,
    tenant: TenantId,
    other_tenant: TenantId,
    signer: CheckpointDesk,
    tmp_path: Path,
) -> None:
    """The other one's books began later: nothing of theirs is in the month, and nothing of theirs is archived."""
    await open_books(database, other_tenant)
    with pytest.raises(MonthNotSealed):
        await archive(means)
    await execution.seal_and_sign(database, signer, other_tenant)
    trusted = means.trusted | await execution.trusted_keys(database, signer, other_tenant)
    recorded = await archive(replace(means, trusted=trusted))
    assert [(one.tenant, one.transfers) for one in recorded] == [(tenant, 12), (other_tenant, 10)]
    for one in (tenant, other_tenant):
        assert (await verify(database, one)).archived == {tenant: 4, other_tenant: 2}[one]


# --- what is refused ------------------------------------------------------------------------------------------------------


async def test_a_month_that_is_not_over_stays(means: archiving.Means) -> None:
    with pytest.raises(MonthNotOver):
        await archiving.archive_before(means, later(3), begin_of(later(3)) - timedelta(seconds=1))


async def test_a_month_with_an_unsealed_or_unsigned_batch_stays(
    database: Database,
    admin: Database,
    tenant: TenantId,
    signer: CheckpointDesk,
    admin_dsn: str,
    tmp_path: Path,
) -> None:
    await open_books(database, tenant)
    await execution.seal_and_sign(database, signer, tenant)
    await post(database, tenant, pay(0, 1, 5))
    means = await means_for(database, admin, signer, tenant, tmp_path / "archive")
    await let_pass(admin_dsn, 1)
    with pytest.raises(MonthNotSealed):
        await archive(means, 1)
    async with database.unit_of_work(tenant) as uow:
        await service.seal_next(uow)
    with pytest.raises(MonthNotSealed):
        await archive(means, 1)
    assert f"ledger_transfers_{this_month():%Y_%m}" in await partitions(admin_dsn)
    await execution.seal_and_sign(database, signer, tenant)
    assert len(await archive(means, 1)) == 1


async def test_an_altered_month_stays(
    means: archiving.Means, database: Database, tenant: TenantId, admin_dsn: str
) -> None:
    connection = await asyncpg.connect(admin_dsn)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute("UPDATE ledger_transfers SET posted = posted + 1 WHERE leaf = 2")
    await connection.close()
    with pytest.raises(HistoryAltered):
        await archive(means)
    assert f"ledger_transfers_{this_month():%Y_%m}" in await partitions(admin_dsn)


async def test_history_in_the_default_partition_stays(
    database: Database,
    admin: Database,
    tenant: TenantId,
    signer: CheckpointDesk,
    admin_dsn: str,
    tmp_path: Path,
) -> None:
    """Nobody had prepared its month."""
    await open_books(database, tenant)
    connection = await asyncpg.connect(admin_dsn)
    await connection.execute("UPDATE ledger_accounts SET booked_at = $1", begin_of(later(30)))
    await connection.close()
    await post(database, tenant, pay(0, 1, 5))
    await execution.seal_and_sign(database, signer, tenant)
    means = await means_for(database, admin, signer, tenant, tmp_path / "archive")
    with pytest.raises(MonthNotPartitioned):
        await archive(means, 31)


async def test_files_that_were_touched_after_they_were_verified_stop_it(
    means: archiving.Means, tenant: TenantId, admin_dsn: str
) -> None:
    def touch(_: str) -> None:
        (path,) = means.folder.glob("*.transfers.jsonl")
        path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))

    with pytest.raises(ArchiveDiffers):
        await archive(replace(means, told=touch))
    assert f"ledger_transfers_{this_month():%Y_%m}" in await partitions(admin_dsn)


async def test_a_writer_that_does_not_end_keeps_the_month_and_loses_nothing(
    means: archiving.Means, database: Database, tenant: TenantId, admin_dsn: str
) -> None:
    async with database.unit_of_work(tenant) as writer:
        await ledger.post(writer, pay(0, 1, 1))
        with pytest.raises(LedgerInUse):
            await archive(means)
    assert f"ledger_transfers_{this_month():%Y_%m}" in await partitions(admin_dsn)
    assert len(await archive(means)) == 1


async def test_what_is_booked_in_the_month_while_it_leaves_keeps_it(
    means: archiving.Means, database: Database, tenant: TenantId, admin_dsn: str
) -> None:
    """A transaction that took its time of booking in the month and commits after the files were written."""
    connection = await asyncpg.connect(admin_dsn)
    await connection.execute("UPDATE ledger_accounts SET booked_at = clock_timestamp()")
    async with database.unit_of_work(tenant) as writer:
        await ledger.post(writer, pay(0, 1, 1))
        archiving_now = asyncio.create_task(archive(means))
        while not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
            assert not archiving_now.done()
    with pytest.raises(MonthNotSealed):
        await archiving_now
    assert f"ledger_transfers_{this_month():%Y_%m}" in await partitions(admin_dsn)
    assert await connection.fetchval("SELECT count(*) FROM ledger_archives") == 0
    await connection.close()


async def test_a_booking_between_its_time_and_its_rows_keeps_the_month(
    means: archiving.Means, database: Database, tenant: TenantId, admin_dsn: str
) -> None:
    """It has its time, and waits for somebody who holds its id: nothing of it can be seen yet, and it will be of this month."""
    beside = [postings.wallet_account(derived_uuid("beside", n), XLM) for n in range(2)]
    source = postings.vault_account(derived_uuid("beside"), XLM)
    watcher, shared = await asyncpg.connect(admin_dsn), new_uuid()

    def under_one_id(debit: AccountKey, credit: AccountKey, atomic: int) -> Transfer:
        return Transfer(
            id=shared,
            debit=debit,
            credit=credit,
            amount=Amount(XLM, atomic),
            code=TransferCode.DEPOSIT,
            reference=shared,
        )

    async def book() -> None:
        async with database.unit_of_work(tenant) as uow:
            await ledger.post(uow, under_one_id(source, beside[0], 77))

    async with database.unit_of_work(tenant) as uow:
        for key in (source, *beside):
            await ledger.open_account(uow, key)
    with suppress(Crash):
        async with database.unit_of_work(tenant) as holder:
            # Refused: it takes the id, and writes no transfer.
            await ledger.submit(holder, [(under_one_id(beside[1], WALLETS[XLM][0], 10**9),)])
            booking = asyncio.create_task(book())
            while not await watcher.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                assert not booking.done()
            with pytest.raises(LedgerInUse):
                await archive(means)
            raise Crash
    await booking
    place = "SELECT tableoid::regclass::text FROM ledger_transfers WHERE id = $1"
    assert await watcher.fetchval(place, shared) == f"ledger_transfers_{this_month():%Y_%m}"
    await watcher.close()


async def test_a_payout_comes_back_after_the_month_of_its_settlement_left(
    means: archiving.Means, database: Database, tenant: TenantId, signer: CheckpointDesk, admin_dsn: str
) -> None:
    await archive(means)
    fiat = await make_fiat(database, tenant)
    await fiat.fund(10_000)
    payout = await fiat.request(4_000)
    async with database.unit_of_work(tenant) as uow:
        await payouts.claim(uow, ("sandbox",), NOW, timedelta(seconds=20))
    async with database.unit_of_work(tenant) as uow:
        await payouts.observe(uow, fiat.news(payout, RailEvent.SETTLED), NOW)
    await let_pass(admin_dsn, 3)
    await execution.seal_and_sign(database, signer, tenant)
    assert await archive(means, 3)
    async with database.unit_of_work(tenant) as uow:
        await payouts.observe(uow, fiat.news(payout, RailEvent.RETURNED), NOW)
    assert (await fiat.books())["wallet"] == 10_000


async def test_writers_go_on_while_a_month_leaves(
    means: archiving.Means, database: Database, tenant: TenantId
) -> None:
    async def write(n: int) -> None:
        for _ in range(20):
            await post(database, tenant, deposit(n, 1))

    await asyncio.gather(*(write(n) for n in range(4)), archive(means))
    verified = await verify(database, tenant)
    assert (verified.archived, verified.batches) == (4, 87)
    async with database.read(tenant) as session:
        assert set((await ledger.trial_balance(session)).values()) == {0}
