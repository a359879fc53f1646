"""What the database refuses by itself, whatever the code says: writes past the posting function, and other tenants' rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
import pytest

from custody.assets import service as assets
from custody.db.session import Database
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import TenantId, derived_uuid, new_uuid
from custody.kernel.money import Amount
from custody.ledger import postings, service
from custody.ledger.errors import UnknownAccount
from custody.ledger.model import Hold, Transfer, TransferCode
from custody.ledger.transitions import ACCOUNTS, HOLDS
from custody.ledger.wire import PARAMETERS

XLM = parse_asset_id("stellar:devnet/native")
ANNA, VAULT = derived_uuid("anna"), derived_uuid("vault")
TABLES = ["ledger_accounts", "ledger_transfers", "ledger_holds", "ledger_commands", "ledger_batches"]
WRITES = [
    statement.format(table)
    for table in TABLES
    for statement in (
        "INSERT INTO {0} SELECT * FROM {0}",
        "UPDATE {0} SET tenant_id = tenant_id",
        "DELETE FROM {0}",
        "TRUNCATE {0}",
        "DROP TABLE {0}",
        "ALTER TABLE {0} DISABLE TRIGGER ALL",
        "ALTER TABLE {0} NO FORCE ROW LEVEL SECURITY",
    )
]


@pytest.fixture(autouse=True)
async def booked(database: Database, tenant: TenantId) -> None:
    """A deposit of 100 and a hold of 40."""
    async with database.unit_of_work(tenant) as uow:
        await assets.register(uow, XLM, "XLM", 7)
        await service.post(
            uow,
            *postings.deposit_credited(
                deposit_id=derived_uuid("deposit"), vault_id=VAULT, wallet_id=ANNA, amount=Amount(XLM, 100)
            ),
        )
        await service.post(
            uow,
            *postings.withdrawal_held(
                withdrawal_id=derived_uuid("withdrawal"),
                wallet_id=ANNA,
                vault_id=VAULT,
                amount=Amount(XLM, 40),
            ),
        )


@pytest.fixture
async def app(app_dsn: str, tenant: TenantId) -> AsyncIterator[asyncpg.Connection[Any]]:
    """The application's role, acting for the tenant."""
    connection = await asyncpg.connect(app_dsn)
    await connection.execute(f"SET app.tenant = '{tenant}'")
    yield connection
    await connection.close()


@pytest.fixture
async def owner(admin_dsn: str, tenant: TenantId) -> AsyncIterator[asyncpg.Connection[Any]]:
    """The schema's owner, as a migration would act."""
    connection = await asyncpg.connect(admin_dsn)
    await connection.execute("SET ROLE custody_owner")
    await connection.execute(f"SET app.tenant = '{tenant}'")
    yield connection
    await connection.close()


async def accepted(
    connection: asyncpg.Connection[Any], statements: Sequence[str], refusal: type[asyncpg.PostgresError]
) -> list[str]:
    """Those of the statements that the database does not refuse with this error. Nothing is kept."""
    through = []
    for statement in statements:
        attempt = connection.transaction()
        await attempt.start()
        try:
            await connection.execute(statement)
            through.append(statement)
        except refusal:
            pass
        finally:
            await attempt.rollback()
    return through


async def test_the_application_cannot_write_but_by_posting(app: asyncpg.Connection[Any]) -> None:
    attempts = [*WRITES, "SET ROLE custody_owner", "SET SESSION AUTHORIZATION custody_owner"]
    assert await accepted(app, attempts, asyncpg.InsufficientPrivilegeError) == []


async def test_the_application_cannot_call_what_lies_beneath(app: asyncpg.Connection[Any]) -> None:
    nothing = ", NULL" * len(PARAMETERS)
    calls = [
        f"SELECT * FROM ledger_apply(1, false, false{nothing})",
        "SELECT * FROM ledger_open(1, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        "SELECT ledger_guard_partition('ledger_accounts')",
    ]
    assert await accepted(app, calls, asyncpg.InsufficientPrivilegeError) == []


async def test_history_refuses_even_its_owner(owner: asyncpg.Connection[Any]) -> None:
    changes = [
        statement.format(table)
        for table in ("ledger_transfers", "ledger_commands")
        for statement in ("UPDATE {0} SET kind = 'x'", "DELETE FROM {0}", "TRUNCATE {0}")
    ]
    changes += [
        "UPDATE ledger_batches SET transfers = 1",
        "DELETE FROM ledger_batches",
        "TRUNCATE ledger_batches",
    ]
    changes += [
        f"{verb} {t}" for t in ("ledger_accounts", "ledger_holds") for verb in ("DELETE FROM", "TRUNCATE")
    ]
    assert await accepted(owner, changes, asyncpg.RestrictViolationError) == []


async def test_checks_are_a_second_net_under_the_function(owner: asyncpg.Connection[Any]) -> None:
    changes = [
        "UPDATE ledger_accounts SET debits_posted = debits_posted + 61 WHERE kind = 'wallet'",
        "UPDATE ledger_accounts SET debits_pending = debits_pending + 61 WHERE kind = 'wallet'",
        "UPDATE ledger_accounts SET credits_pending = -1 WHERE kind = 'wallet'",
        "UPDATE ledger_accounts SET state = 'closed' WHERE kind = 'wallet'",
        "UPDATE ledger_accounts SET state = 'asleep'",
        "UPDATE ledger_holds SET remaining = 0",
        "UPDATE ledger_holds SET state = 'posted'",
        "UPDATE ledger_holds SET posted = 1",
    ]
    assert await accepted(owner, changes, asyncpg.CheckViolationError) == []


async def test_the_states_of_the_database_are_those_of_the_tables(owner: asyncpg.Connection[Any]) -> None:
    for table, machine in (("ledger_accounts", ACCOUNTS), ("ledger_holds", HOLDS)):
        check = await owner.fetchval(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = $1",
            f"ck_{table}_state_known",
        )
        assert sorted(machine.states) == sorted(word for word in check.split("'") if word.isalpha())


async def test_another_tenant_sees_nothing(
    database: Database, tenant: TenantId, other_tenant: TenantId
) -> None:
    async with database.read(other_tenant) as session:
        for name in (*TABLES, "ledger_entries", "ledger_balances", "ledger_trial_balance"):
            found = await session.conn.exec_driver_sql(f"SELECT * FROM {name}")
            assert found.first() is None, name
        assert await service.trial_balance(session) == {}
    async with database.read(tenant) as session:
        assert await service.trial_balance(session) == {XLM: 0}


async def test_a_transaction_without_a_tenant_sees_nothing(database: Database) -> None:
    async with database.read(None) as session:
        for name in TABLES:
            assert (await session.conn.exec_driver_sql(f"SELECT * FROM {name}")).first() is None, name


async def test_another_tenants_account_cannot_be_posted_to(
    database: Database, tenant: TenantId, other_tenant: TenantId, app: asyncpg.Connection[Any]
) -> None:
    wallet, vault = postings.wallet_account(ANNA, XLM), postings.vault_account(VAULT, XLM)
    move = Transfer(
        id=new_uuid(),
        debit=vault,
        credit=wallet,
        amount=Amount(XLM, 1),
        code=TransferCode.DEPOSIT,
        reference=new_uuid(),
    )
    with pytest.raises(UnknownAccount):
        async with database.unit_of_work(other_tenant) as uow:
            await service.post(uow, move)
    await app.execute(f"SET app.tenant = '{other_tenant}'")
    foreign = {
        "kind": "transfer",
        "id": new_uuid(),
        "debit": vault.id_for(tenant),
        "credit": wallet.id_for(tenant),
        "amount": "1",
        "code": "deposit",
        "reference": new_uuid(),
    }
    assert await call(app, other_tenant, **foreign) == "unknown_account"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await call(app, tenant, **foreign)


async def call(app: asyncpg.Connection[Any], tenant: TenantId, **command: object) -> str:
    """The posting function itself, with one command that no code of ours has looked at. Answers its result."""
    arrays = [[{"chain": 0, **command}.get(name)] for name in PARAMETERS]
    places = ", ".join(f"${n + 2}" for n in range(len(PARAMETERS)))
    results = await app.fetchval(
        f"SELECT results FROM ledger_post($1, false, {places})", int(tenant), *arrays
    )
    return "applied" if results is None else str(results[0])


async def test_the_same_ids_of_two_tenants_do_not_meet(
    database: Database, tenant: TenantId, other_tenant: TenantId
) -> None:
    commands = postings.deposit_credited(
        deposit_id=derived_uuid("deposit"), vault_id=VAULT, wallet_id=ANNA, amount=Amount(XLM, 7)
    )
    async with database.unit_of_work(other_tenant) as uow:
        outcomes = await service.post(uow, *commands)
    assert not outcomes[-1].replayed
    async with database.read(tenant) as session:
        assert (await service.balance(session, postings.wallet_account(ANNA, XLM))).posted == 100


async def test_accounts_of_two_assets_do_not_exchange(
    database: Database, tenant: TenantId, app: asyncpg.Connection[Any]
) -> None:
    euro = parse_asset_id("fiat/EUR")
    async with database.unit_of_work(tenant) as uow:
        await assets.register(uow, euro, "EUR", 2)
        other = await service.open_account(uow, postings.wallet_account(ANNA, euro))
    for kind in ("transfer", "hold"):
        answered = await call(
            app,
            tenant,
            kind=kind,
            id=new_uuid(),
            debit=postings.wallet_account(ANNA, XLM).id_for(tenant),
            credit=other.id,
            amount="1",
            code="deposit",
            reference=new_uuid(),
        )
        assert answered == "asset_mismatch"


@pytest.mark.parametrize(
    "command",
    [
        {"kind": "post_hold", "id": new_uuid(), "target": new_uuid(), "amount": "1.5"},
        {"kind": "post_hold", "id": new_uuid(), "target": new_uuid(), "amount": "NaN"},
        {"kind": "post_hold", "id": new_uuid(), "target": new_uuid(), "amount": "1e3"},
        {"kind": "transfer", "id": new_uuid(), "amount": "1", "code": "Deposit 7"},
        {"kind": "abolish", "id": new_uuid()},
        {"kind": "transfer"},
    ],
    ids=lambda command: f"{command['kind']} {command.get('amount', '')}",
)
async def test_an_amount_that_is_not_whole_or_a_command_unknown_stops_the_call(
    app: asyncpg.Connection[Any], tenant: TenantId, command: dict[str, object]
) -> None:
    with pytest.raises(asyncpg.PostgresError):
        await call(app, tenant, **command)


async def test_a_refused_post_leaves_the_callers_transaction_usable(
    database: Database, tenant: TenantId
) -> None:
    too_much = Hold(
        id=new_uuid(),
        debit=postings.wallet_account(ANNA, XLM),
        credit=postings.vault_account(VAULT, XLM),
        amount=Amount(XLM, 61),
        code=TransferCode.WITHDRAWAL,
        reference=new_uuid(),
    )
    async with database.unit_of_work(tenant) as uow:
        with pytest.raises(Exception, match="insufficient_funds"):
            await service.post(uow, too_much)
        found = await service.balance(uow, postings.wallet_account(ANNA, XLM))
    assert (found.posted, found.available, found.version) == (100, 60, 2)
