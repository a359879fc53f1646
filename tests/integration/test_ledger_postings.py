"""The ledger on a real Postgres: what each command does, what it refuses, and what it answers when asked again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from custody.assets import service as assets
from custody.assets.errors import UnknownAsset
from custody.db.session import Database
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import TenantId, new_uuid
from custody.kernel.money import Amount
from custody.ledger import postings, service
from custody.ledger.errors import (
    AccountClosed,
    AccountFrozen,
    AccountNotEmpty,
    AlreadyReversed,
    HoldExceeded,
    HoldNotDue,
    HoldNotOpen,
    InsufficientFunds,
    TransferExistsDifferent,
)
from custody.ledger.model import (
    AccountKey,
    ChangeAccount,
    Command,
    ExpireHold,
    Hold,
    PostHold,
    ResultCode,
    Reverse,
    Transfer,
    TransferCode,
    VoidHold,
)

XLM = parse_asset_id("stellar:devnet/native")
EUR = parse_asset_id("fiat/EUR")
VAULT, BANK = new_uuid(), new_uuid()
ANNA, BERT = new_uuid(), new_uuid()


@pytest.fixture(autouse=True)
async def listed(database: Database) -> None:
    async with database.unit_of_work(None) as uow:
        await assets.register(uow, XLM, "XLM", 7)
        await assets.register(uow, EUR, "EUR", 2)


async def post(database: Database, tenant: TenantId, *commands: Command) -> None:
    async with database.unit_of_work(tenant) as uow:
        await service.post(uow, *commands)


async def deposit(database: Database, tenant: TenantId, wallet: UUID, atomic: int) -> UUID:
    deposit_id = new_uuid()
    commands = postings.deposit_credited(
        deposit_id=deposit_id, vault_id=VAULT, wallet_id=wallet, amount=Amount(XLM, atomic)
    )
    await post(database, tenant, *commands)
    return deposit_id


async def held(database: Database, tenant: TenantId, atomic: int, expires_at: datetime | None = None) -> UUID:
    hold = Hold(
        id=new_uuid(),
        debit=wallet(ANNA),
        credit=postings.vault_account(VAULT, XLM),
        amount=Amount(XLM, atomic),
        code=TransferCode.WITHDRAWAL,
        reference=new_uuid(),
        expires_at=expires_at,
    )
    await post(database, tenant, hold)
    return hold.id


def wallet(owner: UUID) -> AccountKey:
    return postings.wallet_account(owner, XLM)


async def figures(database: Database, tenant: TenantId, key: AccountKey) -> tuple[int, int, int, int]:
    """posted, pending in, pending out, available"""
    async with database.read(tenant) as session:
        found = await service.balance(session, key)
        assert set((await service.trial_balance(session)).values()) <= {0}
    return found.posted, found.pending_in, found.pending_out, found.available


async def test_a_deposit_raises_vault_and_wallet_once(database: Database, tenant: TenantId) -> None:
    commands = postings.deposit_credited(
        deposit_id=new_uuid(), vault_id=VAULT, wallet_id=ANNA, amount=Amount(XLM, 100)
    )
    async with database.unit_of_work(tenant) as uow:
        first = await service.post(uow, *commands)
    async with database.unit_of_work(tenant) as uow:
        again = await service.post(uow, *commands)
    assert [o.result for o in first] == [ResultCode.APPLIED] * 3
    assert (first[2].debit_version, first[2].debit_balance, first[2].credit_balance) == (1, 100, 100)
    assert again[2].replayed
    assert (again[2].credit_version, again[2].booked_at) == (1, first[2].booked_at)
    assert await figures(database, tenant, wallet(ANNA)) == (100, 0, 0, 100)
    assert await figures(database, tenant, postings.vault_account(VAULT, XLM)) == (100, 0, 0, 100)


async def test_a_withdrawal_is_held_then_settled(database: Database, tenant: TenantId) -> None:
    await deposit(database, tenant, ANNA, 100)
    withdrawal = new_uuid()
    await post(
        database,
        tenant,
        *postings.withdrawal_held(
            withdrawal_id=withdrawal, wallet_id=ANNA, vault_id=VAULT, amount=Amount(XLM, 60)
        ),
    )
    assert await figures(database, tenant, wallet(ANNA)) == (100, 0, 60, 40)
    await post(database, tenant, *postings.withdrawal_settled(withdrawal_id=withdrawal))
    assert await figures(database, tenant, wallet(ANNA)) == (40, 0, 0, 40)
    assert await figures(database, tenant, postings.vault_account(VAULT, XLM)) == (40, 0, 0, 40)
    with pytest.raises(HoldNotOpen):
        await post(database, tenant, *postings.withdrawal_released(withdrawal_id=withdrawal))


async def test_a_released_withdrawal_frees_the_money(database: Database, tenant: TenantId) -> None:
    await deposit(database, tenant, ANNA, 100)
    withdrawal = new_uuid()
    await post(
        database,
        tenant,
        *postings.withdrawal_held(
            withdrawal_id=withdrawal, wallet_id=ANNA, vault_id=VAULT, amount=Amount(XLM, 100)
        ),
    )
    await post(database, tenant, *postings.withdrawal_released(withdrawal_id=withdrawal))
    assert await figures(database, tenant, wallet(ANNA)) == (100, 0, 0, 100)


async def test_a_fee_is_booked_even_while_all_of_the_vault_is_promised(
    database: Database, tenant: TenantId
) -> None:
    await deposit(database, tenant, ANNA, 100)
    await held(database, tenant, 100)
    await post(
        database, tenant, *postings.network_fee_paid(reference=new_uuid(), vault_id=VAULT, fee=Amount(XLM, 3))
    )
    assert await figures(database, tenant, postings.vault_account(VAULT, XLM)) == (97, 0, 100, -3)


async def test_a_hold_on_a_vault_that_lacks_the_money_is_refused(
    database: Database, tenant: TenantId
) -> None:
    await deposit(database, tenant, ANNA, 100)
    with pytest.raises(InsufficientFunds) as refused:
        await post(
            database,
            tenant,
            *postings.withdrawal_held(
                withdrawal_id=new_uuid(), wallet_id=ANNA, vault_id=new_uuid(), amount=Amount(XLM, 1)
            ),
        )
    assert refused.value.values["account"] == "vault"


async def test_a_returned_payout_is_the_mirror_of_its_settlement(
    database: Database, tenant: TenantId
) -> None:
    payout, amount = new_uuid(), Amount(EUR, 250)
    await post(
        database,
        tenant,
        *postings.receipt_credited(
            receipt_id=new_uuid(), bank_account_id=BANK, wallet_id=ANNA, amount=amount
        ),
    )
    await post(
        database,
        tenant,
        *postings.payout_held(payout_id=payout, wallet_id=ANNA, bank_account_id=BANK, amount=amount),
    )
    await post(database, tenant, *postings.payout_settled(payout_id=payout))
    assert await figures(database, tenant, postings.wallet_account(ANNA, EUR)) == (0, 0, 0, 0)
    for _ in range(2):
        await post(
            database,
            tenant,
            *postings.payout_returned(payout_id=payout, wallet_id=ANNA, bank_account_id=BANK, amount=amount),
        )
    assert await figures(database, tenant, postings.wallet_account(ANNA, EUR)) == (250, 0, 0, 250)
    assert await figures(database, tenant, postings.bank_account(BANK, EUR)) == (250, 0, 0, 250)


async def test_a_deposit_is_reversed_once(database: Database, tenant: TenantId) -> None:
    deposit_id = await deposit(database, tenant, ANNA, 100)
    await post(database, tenant, *postings.deposit_reversed(deposit_id=deposit_id))
    assert await figures(database, tenant, wallet(ANNA)) == (0, 0, 0, 0)
    async with database.read(tenant) as session:
        entries = await service.statement(session, wallet(ANNA))
    with pytest.raises(AlreadyReversed):
        await post(database, tenant, Reverse(id=new_uuid(), transfer_id=entries[0].transfer_id))


async def test_an_id_with_another_body_is_refused(database: Database, tenant: TenantId) -> None:
    await deposit(database, tenant, ANNA, 100)
    transfer = new_uuid()

    def move(atomic: int) -> tuple[Command, ...]:
        return postings.wallet_transfer(
            transfer_id=transfer,
            source_wallet_id=ANNA,
            destination_wallet_id=BERT,
            amount=Amount(XLM, atomic),
        )

    await post(database, tenant, *move(10))
    with pytest.raises(TransferExistsDifferent):
        await post(database, tenant, *move(11))
    assert await figures(database, tenant, wallet(BERT)) == (10, 0, 0, 10)


async def test_submit_records_a_refusal_and_post_does_not(database: Database, tenant: TenantId) -> None:
    move = postings.wallet_transfer(
        transfer_id=new_uuid(),
        source_wallet_id=ANNA,
        destination_wallet_id=BERT,
        amount=Amount(XLM, 10),
    )
    with pytest.raises(InsufficientFunds) as refused:
        await post(database, tenant, *move)
    assert (refused.value.values["account"], refused.value.values["owner"]) == ("wallet", ANNA)
    async with database.unit_of_work(tenant) as uow:
        first = await service.submit(uow, [move])
    await deposit(database, tenant, ANNA, 100)
    async with database.unit_of_work(tenant) as uow:
        again = await service.submit(uow, [move])
    assert [(o[2].result, o[2].replayed) for o in (first, again)] == [
        (ResultCode.INSUFFICIENT_FUNDS, False),
        (ResultCode.INSUFFICIENT_FUNDS, True),
    ]
    with pytest.raises(InsufficientFunds):
        await post(database, tenant, *move)


async def test_a_chain_applies_all_or_none(database: Database, tenant: TenantId) -> None:
    await deposit(database, tenant, ANNA, 100)
    await deposit(database, tenant, BERT, 5)

    def move(source: UUID, destination: UUID, atomic: int) -> Transfer:
        return Transfer(
            id=new_uuid(),
            debit=wallet(source),
            credit=wallet(destination),
            amount=Amount(XLM, atomic),
            code=TransferCode.WALLET_TRANSFER,
            reference=new_uuid(),
        )

    chain = [move(ANNA, BERT, 30), move(BERT, ANNA, 40), move(ANNA, BERT, 1)]
    async with database.unit_of_work(tenant) as uow:
        outcomes = await service.submit(uow, [chain, [move(ANNA, BERT, 7)]])
    assert [o.result.value for o in outcomes] == [
        "chain_refused",
        "insufficient_funds",
        "chain_refused",
        "applied",
    ]
    assert outcomes[3].debit_version == 2
    assert await figures(database, tenant, wallet(BERT)) == (12, 0, 0, 12)


async def test_a_hold_is_posted_in_parts_and_its_rest_released(database: Database, tenant: TenantId) -> None:
    await deposit(database, tenant, ANNA, 100)
    hold = await held(database, tenant, 80)
    await post(database, tenant, PostHold(id=new_uuid(), hold_id=hold, amount=Amount(XLM, 30)))
    assert await figures(database, tenant, wallet(ANNA)) == (70, 0, 50, 20)
    with pytest.raises(HoldExceeded):
        await post(database, tenant, PostHold(id=new_uuid(), hold_id=hold, amount=Amount(XLM, 51)))
    await post(database, tenant, PostHold(id=new_uuid(), hold_id=hold, amount=Amount(XLM, 10), final=True))
    assert await figures(database, tenant, wallet(ANNA)) == (60, 0, 0, 60)
    with pytest.raises(HoldNotOpen):
        await post(database, tenant, VoidHold(id=new_uuid(), hold_id=hold))


async def test_only_a_sweeper_ends_an_overdue_hold(database: Database, tenant: TenantId) -> None:
    await deposit(database, tenant, ANNA, 100)
    due = datetime(2030, 1, 1, tzinfo=UTC)
    hold = await held(database, tenant, 80, expires_at=due)
    with pytest.raises(HoldNotDue):
        await post(
            database, tenant, ExpireHold(id=new_uuid(), hold_id=hold, as_of=due - timedelta(seconds=1))
        )
    async with database.unit_of_work(tenant) as uow:
        assert await service.expire_due(uow, due - timedelta(seconds=1)) == []
        assert await service.expire_due(uow, due) == [hold]
        assert await service.expire_due(uow, due) == []
    assert await figures(database, tenant, wallet(ANNA)) == (100, 0, 0, 100)


async def test_frozen_money_comes_in_but_does_not_leave(database: Database, tenant: TenantId) -> None:
    await deposit(database, tenant, ANNA, 100)
    hold = await held(database, tenant, 40)
    await post(database, tenant, ChangeAccount(id=new_uuid(), key=wallet(ANNA), event="freeze"))
    await deposit(database, tenant, ANNA, 5)
    with pytest.raises(AccountFrozen):
        await held(database, tenant, 1)
    await post(database, tenant, PostHold(id=new_uuid(), hold_id=hold))
    assert await figures(database, tenant, wallet(ANNA)) == (65, 0, 0, 65)
    await post(database, tenant, ChangeAccount(id=new_uuid(), key=wallet(ANNA), event="unfreeze"))
    await held(database, tenant, 1)


async def test_only_an_empty_account_is_closed_and_it_stays_closed(
    database: Database, tenant: TenantId
) -> None:
    deposit_id = await deposit(database, tenant, ANNA, 100)
    with pytest.raises(AccountNotEmpty):
        await post(database, tenant, ChangeAccount(id=new_uuid(), key=wallet(ANNA), event="close"))
    await post(database, tenant, *postings.deposit_reversed(deposit_id=deposit_id))
    await post(database, tenant, ChangeAccount(id=new_uuid(), key=wallet(ANNA), event="close"))
    with pytest.raises(AccountClosed):
        await deposit(database, tenant, ANNA, 1)


async def test_an_account_in_an_unlisted_asset_is_refused(database: Database, tenant: TenantId) -> None:
    async with database.unit_of_work(tenant) as uow:
        with pytest.raises(UnknownAsset):
            await service.open_account(uow, postings.wallet_account(ANNA, parse_asset_id("fiat/XXX")))


async def test_the_statement_pages_and_the_past_is_found(database: Database, tenant: TenantId) -> None:
    for atomic in (10, 20, 30, 40):
        await deposit(database, tenant, ANNA, atomic)
    async with database.read(tenant) as session:
        first = await service.statement(session, wallet(ANNA), 0, 3)
        rest = await service.statement(session, wallet(ANNA), first[-1].version, 3)
        entries = [*first, *rest]
        assert [(e.version, e.posted, e.balance) for e in entries] == [
            (1, 10, 10),
            (2, 20, 30),
            (3, 30, 60),
            (4, 40, 100),
        ]
        for entry in entries:
            past = await service.balance_at(session, wallet(ANNA), entry.booked_at)
            assert (past.version, past.posted) == (entry.version, entry.balance)
        before = entries[0].booked_at - timedelta(microseconds=1)
        assert (await service.balance_at(session, wallet(ANNA), before)).version == 0
        assert [b.posted for b in await service.balances(session, wallet(ANNA).kind, ANNA)] == [100]
