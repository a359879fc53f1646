"""Books with a month that is over, and the means to archive it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from custody.db.session import Database
from custody.kernel.ids import TenantId, new_uuid
from custody.kernel.money import Amount
from custody.ledger import service as ledger
from custody.ledger.model import Hold, PostHold, Transfer, TransferCode
from custody.seals import archiving, execution
from tests.fakes.archived_books import means_for
from tests.fakes.checkpoint_desk import CheckpointDesk
from tests.fakes.passing_months import let_pass
from tests.fakes.sealed_books import VAULTS, WALLETS, XLM, open_books, pay, post


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
