"""Archiving: what is over, sealed and signed leaves, verified from its files; what stays answers right or refuses to answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from custody.db.session import Database
from custody.kernel.ids import TenantId, new_uuid
from custody.kernel.money import Amount
from custody.ledger import service as ledger
from custody.ledger.errors import HistoryArchived, TransferArchived
from custody.ledger.model import Hold, PostHold, Reverse, Transfer, TransferCode
from custody.seals import archiving, disclosure, execution, export, service
from custody.seals.archives import begin_of
from custody.seals.errors import (
    ArchiveDiffers,
    HistoryAltered,
    LedgerInUse,
    MonthNotOver,
    MonthNotPartitioned,
    MonthNotSealed,
)
from custody.seals.model import Archive, Verified
from custody.signing.checkpoints import message_of
from custody.warehouse import execution as warehouse
from custody.warehouse import manifest
from custody.warehouse.errors import EntriesArchived
from tests.fakes.checkpoint_desk import CheckpointDesk
from tests.fakes.passing_months import later, let_pass, this_month
from tests.fakes.sealed_books import EUR, VAULTS, WALLETS, XLM, deposit, open_books, pay, post


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[CheckpointDesk]:
    directory = tmp_path / "signer"
    directory.mkdir()
    desk = CheckpointDesk(directory)
    yield desk
    desk.close()


@pytest.fixture
async def admin(admin_dsn: str) -> AsyncIterator[Database]:
    opened = Database(admin_dsn, pool_size=2)
    yield opened
    await opened.close()


@pytest.fixture
async def books(
    database: Database, tenant: TenantId, signer: CheckpointDesk, admin_dsn: str
) -> dict[str, Transfer]:
    """Eleven transfers and a hold this month, two transfers and a part of the hold two months later, all sealed and signed."""
    await open_books(database, tenant)
    first, second = pay(0, 1, 5), pay(1, 2, 7)
    hold = Hold(
        id=new_uuid(),
        debit=WALLETS[XLM][3],
        credit=VAULTS[XLM],
        amount=Amount(XLM, 100),
        code=TransferCode.WITHDRAWAL,
        reference=new_uuid(),
    )
    async with database.unit_of_work(tenant) as uow:
        await ledger.post(uow, first)
        await ledger.post(uow, hold)
    await let_pass(admin_dsn, 2)
    await post(database, tenant, second)
    await post(database, tenant, pay(2, 0, 9))
    async with database.unit_of_work(tenant) as uow:
        await ledger.post(uow, PostHold(id=new_uuid(), hold_id=hold.id, amount=Amount(XLM, 40)))
    await execution.seal_and_sign(database, signer, tenant)
    return {"first": first, "second": second}


async def means_for(
    database: Database, admin: Database, signer: CheckpointDesk, tenant: TenantId, folder: Path
) -> archiving.Means:
    return archiving.Means(
        app=database,
        admin=admin,
        folder=folder,
        message=message_of,
        trusted=await execution.trusted_keys(database, signer, tenant),
        told=lambda _: None,
    )


@pytest.fixture
async def means(
    database: Database,
    admin: Database,
    signer: CheckpointDesk,
    tenant: TenantId,
    tmp_path: Path,
    books: dict[str, Transfer],
) -> archiving.Means:
    return await means_for(database, admin, signer, tenant, tmp_path / "archive")


async def archive(means: archiving.Means, months: int = 2) -> list[Archive]:
    """All months before the one so many after this, which has begun."""
    return await archiving.archive_before(means, later(months), begin_of(later(months)))


async def verify(database: Database, tenant: TenantId) -> Verified:
    async with database.read(tenant) as session:
        return await service.verify(session, message_of, None)


async def figures(database: Database, tenant: TenantId) -> dict[object, tuple[int, int, int]]:
    async with database.read(tenant) as session:
        found = [
            await ledger.balance(session, key)
            for asset in (XLM, EUR)
            for key in (VAULTS[asset], *WALLETS[asset])
        ]
    return {one.key: (one.posted, one.pending_out, one.version) for one in found}


async def partitions(admin_dsn: str) -> set[str]:
    connection = await asyncpg.connect(admin_dsn)
    rows = await connection.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'ledger_transfers'::regclass"
    )
    await connection.close()
    return {row["name"] for row in rows}


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


# --- what stays answers right, or not at all ------------------------------------------------------------------------------


async def test_a_command_of_an_archived_transfer_is_still_answered_and_not_done_twice(
    means: archiving.Means, database: Database, tenant: TenantId, books: dict[str, Transfer]
) -> None:
    await archive(means)
    before = await figures(database, tenant)
    async with database.unit_of_work(tenant) as uow:
        (outcome,) = await ledger.post(uow, books["first"])
    assert (outcome.replayed, outcome.result.value) == (True, "applied")
    assert await figures(database, tenant) == before


async def test_an_archived_transfer_cannot_be_reversed_and_says_so(
    means: archiving.Means, database: Database, tenant: TenantId, books: dict[str, Transfer]
) -> None:
    await archive(means)
    with pytest.raises(TransferArchived):
        async with database.unit_of_work(tenant) as uow:
            await ledger.post(uow, Reverse(id=new_uuid(), transfer_id=books["first"].id))
    async with database.unit_of_work(tenant) as uow:
        await ledger.post(uow, Reverse(id=new_uuid(), transfer_id=books["second"].id))
    assert (await verify(database, tenant)).unsealed == 1


async def test_balances_at_a_time_are_right_after_the_boundary_and_refused_before(
    means: archiving.Means, database: Database, tenant: TenantId
) -> None:
    keys = [key for asset in (XLM, EUR) for key in (VAULTS[asset], *WALLETS[asset])]
    until = begin_of(later(1))
    moments = (until, until + timedelta(days=3), begin_of(later(2)), begin_of(later(2)) + timedelta(days=9))

    async def answers() -> list[object]:
        async with database.read(tenant) as session:
            return [
                (
                    await ledger.balance_at(session, key, at),
                    await ledger.balance_at_effective(session, key, at),
                )
                for key in keys
                for at in moments
            ]

    before = await answers()
    assert len({str(one) for one in before}) > 6
    await archive(means)
    assert await answers() == before
    async with database.read(tenant) as session:
        for at in (until - timedelta(microseconds=1), datetime(2020, 1, 1, tzinfo=UTC)):
            with pytest.raises(HistoryArchived):
                await ledger.balance_at(session, WALLETS[XLM][0], at)
            with pytest.raises(HistoryArchived):
                await ledger.balance_at_effective(session, WALLETS[XLM][0], at)


async def test_the_database_itself_refuses_a_balance_from_before(
    means: archiving.Means, tenant: TenantId, app_dsn: str
) -> None:
    await archive(means)
    account = WALLETS[XLM][0].id_for(tenant)
    connection = await asyncpg.connect(app_dsn)
    await connection.execute("SELECT set_config('app.tenant', $1, false)", str(tenant))
    for function in ("ledger_balance_at", "ledger_balance_at_effective"):
        with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError):
            await connection.fetch(
                f"SELECT * FROM {function}($1, $2, $3)", tenant, account, begin_of(this_month())
            )
    await connection.close()


async def test_a_value_date_beyond_the_month_moves_the_boundary_of_value_dates(
    database: Database,
    admin: Database,
    tenant: TenantId,
    signer: CheckpointDesk,
    admin_dsn: str,
    tmp_path: Path,
) -> None:
    """An archived entry that takes effect later would be missing from a balance by value date until then."""
    await open_books(database, tenant)
    takes_effect = begin_of(later(2)) + timedelta(days=4)
    await post(database, tenant, replace(pay(0, 1, 5), effective_at=takes_effect))
    await let_pass(admin_dsn, 1)
    await execution.seal_and_sign(database, signer, tenant)
    async with database.read(tenant) as session:
        expected = await ledger.balance_at_effective(session, WALLETS[XLM][0], takes_effect)
    means = await means_for(database, admin, signer, tenant, tmp_path / "archive")
    await archive(means, 1)
    async with database.read(tenant) as session:
        assert await ledger.balance_at_effective(session, WALLETS[XLM][0], takes_effect) == expected == 995
        with pytest.raises(HistoryArchived):
            await ledger.balance_at_effective(
                session, WALLETS[XLM][0], takes_effect - timedelta(microseconds=1)
            )
        assert (await ledger.balance_at(session, WALLETS[XLM][0], begin_of(later(1)))).posted == 995


async def test_a_statement_begins_after_the_boundary_or_is_refused(
    means: archiving.Means, database: Database, tenant: TenantId
) -> None:
    key = WALLETS[XLM][1]
    async with database.read(tenant) as session:
        whole = await ledger.statement(session, key)
    await archive(means)
    async with database.read(tenant) as session:
        with pytest.raises(HistoryArchived) as caught:
            await ledger.statement(session, key)
        first = caught.value.values["first_version"]
        assert isinstance(first, int)
        assert await ledger.statement(session, key, first - 1) == whole[first - 1 :]
        assert await ledger.statement(session, WALLETS[XLM][4], 1) == []


async def test_a_hold_that_was_made_in_an_archived_month_can_be_posted(
    means: archiving.Means, database: Database, tenant: TenantId
) -> None:
    await archive(means)
    async with database.read(tenant) as session:
        assert (await ledger.balance(session, WALLETS[XLM][3])).pending_out == 60
    connection = await asyncpg.connect(means.admin.url)
    hold_id = await connection.fetchval("SELECT id FROM ledger_holds")
    await connection.close()
    async with database.unit_of_work(tenant) as uow:
        await ledger.post(uow, PostHold(id=new_uuid(), hold_id=hold_id))
    assert (await verify(database, tenant)).archived == 4


async def test_what_is_owed_is_still_derived(
    means: archiving.Means, database: Database, tenant: TenantId
) -> None:
    async with database.unit_of_work(tenant) as uow:
        before = {one.asset: one.tree.root for one in await disclosure.publish_liabilities(uow, "test")}
    await archive(means)
    async with database.unit_of_work(tenant) as uow:
        after = {one.asset: one.tree.root for one in await disclosure.publish_liabilities(uow, "test")}
    assert before == after
    assert len(before) == 2


# --- who changes what was recorded is found -------------------------------------------------------------------------------


async def altered(admin_dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(admin_dsn)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(statement)
    await connection.close()


async def test_an_altered_opening_is_found_by_both_checks(
    means: archiving.Means, database: Database, tenant: TenantId, admin_dsn: str
) -> None:
    await archive(means)
    await altered(
        admin_dsn, "UPDATE ledger_openings SET credits_posted = credits_posted + 1 WHERE version = 2"
    )
    with pytest.raises(HistoryAltered):
        await verify(database, tenant)
    with pytest.raises(ArchiveDiffers):
        await archiving.check_archives(database, tenant, means.folder)


async def test_an_opening_altered_with_its_account_is_found_by_the_archive(
    means: archiving.Means, database: Database, tenant: TenantId, admin_dsn: str
) -> None:
    """The database alone cannot tell: what proves it is in the files."""
    await archive(means)
    account = WALLETS[EUR][0].id_for(tenant)
    for table, key in (("ledger_openings", "account_id"), ("ledger_accounts", "id")):
        await altered(
            admin_dsn, f"UPDATE {table} SET credits_posted = credits_posted + 5 WHERE {key} = '{account}'"
        )
    await verify(database, tenant)
    with pytest.raises(ArchiveDiffers) as caught:
        await archiving.check_archives(database, tenant, means.folder)
    assert caught.value.values["account"] == account


async def test_rows_that_vanish_without_an_archive_are_found(
    means: archiving.Means, database: Database, tenant: TenantId, admin_dsn: str
) -> None:
    await archive(means)
    await altered(admin_dsn, "DELETE FROM ledger_transfers WHERE code = 'wallet_transfer'")
    with pytest.raises(HistoryAltered):
        await verify(database, tenant)


async def test_a_wrong_root_of_an_archived_batch_is_found(
    means: archiving.Means, database: Database, tenant: TenantId, admin_dsn: str
) -> None:
    await archive(means)
    await altered(
        admin_dsn,
        "UPDATE ledger_batches SET root = sha256('x') WHERE id = (SELECT min(id) FROM ledger_batches)",
    )
    with pytest.raises(HistoryAltered):
        await verify(database, tenant)


async def test_an_export_without_rows_that_claims_no_archive_is_refused(
    means: archiving.Means, tenant: TenantId, database: Database, tmp_path: Path
) -> None:
    await archive(means)
    async with database.read(tenant) as session:
        await export.export(session, tmp_path / "fresh", 0)
    (offline,) = export.verify_export(tmp_path / "fresh", message_of, means.trusted).values()
    assert offline.archived == 4
    (tmp_path / "fresh" / f"tenant-{tenant}.archives.jsonl").unlink()
    with pytest.raises(HistoryAltered):
        export.verify_export(tmp_path / "fresh", message_of, means.trusted)


async def test_the_proof_of_an_archived_transfer_is_refused_and_says_where_it_is(
    means: archiving.Means, database: Database, tenant: TenantId, books: dict[str, Transfer]
) -> None:
    await archive(means)
    async with database.read(tenant) as session:
        with pytest.raises(HistoryArchived) as caught:
            await disclosure.prove(session, books["first"].id)
        assert caught.value.values["archived_to"] == str(means.folder)
        await disclosure.prove(session, books["second"].id)


async def test_a_warehouse_that_has_passed_goes_on_and_one_that_has_not_is_refused(
    means: archiving.Means, database: Database, tenant: TenantId, tmp_path: Path
) -> None:
    async def write(folder: Path) -> int:
        with manifest.claimed(folder):
            exporter = await warehouse.open_exporter(database, folder, None, watch=lambda _: None)
            return await exporter.export(database, tenant, None)

    assert await write(tmp_path / "early") == 30
    await archive(means)
    await post(database, tenant, pay(0, 1, 1))
    assert await write(tmp_path / "early") == 2
    with pytest.raises(EntriesArchived) as caught:
        await write(tmp_path / "late")
    assert caught.value.values["archived_to"] == str(means.folder)
