"""After a month was archived: what stays answers right or refuses to answer, and who changes what was recorded is found."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from custody.db.session import Database
from custody.kernel.ids import TenantId, new_uuid
from custody.ledger import service as ledger
from custody.ledger.errors import HistoryArchived, TransferArchived
from custody.ledger.model import PostHold, Reverse, Transfer
from custody.seals import archiving, disclosure, execution, export
from custody.seals.archives import begin_of
from custody.seals.errors import (
    ArchiveDiffers,
    HistoryAltered,
)
from custody.signing.checkpoints import message_of
from custody.warehouse import execution as warehouse
from custody.warehouse import manifest
from custody.warehouse.errors import EntriesArchived
from tests.fakes.archived_books import archive, figures, means_for, verify
from tests.fakes.checkpoint_desk import CheckpointDesk
from tests.fakes.passing_months import later, let_pass, this_month
from tests.fakes.sealed_books import EUR, VAULTS, WALLETS, XLM, open_books, pay, post

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
