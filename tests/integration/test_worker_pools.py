"""The worker keeps deposit keys ready for every tenant, whatever befalls another, and tells of keys that are not the signer's."""

from __future__ import annotations

import asyncio
from uuid import UUID

from structlog.testing import capture_logs

from custody import worker
from custody.db.session import Database
from custody.deposits import key_pool
from custody.events.wakeup import Waker
from custody.kernel.ids import TenantId
from custody.signing.errors import SignerRefused, SigningUnknown
from custody.signing.model import VouchedKey
from custody.wallets import keys as pool
from tests.fakes.key_maker import FakeKeyMaker
from tests.fakes.withdrawal_world import EVM, World, make_settings
from tests.integration.ingestion_harness import Desk
from tests.integration.test_deposit_keys_trust import forged, insert
from tests.integration.test_withdrawals_worker import until


class Choosy(FakeKeyMaker):
    """Serves some tenants only."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses: dict[TenantId, Exception] = {}

    async def create_keys(
        self, *, request_id: UUID, tenant: TenantId, purpose: str, count: int
    ) -> list[VouchedKey]:
        if tenant in self.refuses:
            raise self.refuses[tenant]
        return await super().create_keys(request_id=request_id, tenant=tenant, purpose=purpose, count=count)


async def free(db: Database, tenant: TenantId) -> int:
    async with db.read(tenant) as session:
        return (await pool.depth(session)).free


async def test_every_tenants_pool_is_filled_whatever_befalls_another(
    database: Database, tenant: TenantId, other_tenant: TenantId
) -> None:
    settings = make_settings(deposit_pool={"low_water": 5, "batch_size": 2})
    means = World(db=database, tenant=tenant, settings=settings).means
    signer = Choosy()
    for trouble in (SignerRefused(reason="over_velocity", text=""), SigningUnknown()):
        signer.refuses = {tenant: trouble}
        await worker.fill_pools(means, signer)
        assert (await free(database, tenant), await free(database, other_tenant)) == (0, 6)
    signer.refuses = {}
    await worker.fill_pools(means, signer)
    assert await free(database, tenant) == 6


async def test_a_running_worker_fills_the_pool_by_itself(database: Database, tenant: TenantId) -> None:
    settings = make_settings(deposit_pool={"low_water": 1, "batch_size": 2})
    world = await World(db=database, tenant=tenant, settings=settings).open()

    async def filled() -> bool:
        return await free(database, tenant) > 0

    stop = asyncio.Event()
    waker = Waker("redis://127.0.0.1:1/0")
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run(world.means, waker, stop, None, FakeKeyMaker()))
        await until(filled)
        stop.set()
    await waker.close()
    assert await free(database, tenant) == 2


async def test_the_worker_tells_of_a_key_that_is_not_the_signers(
    database: Database, tenant: TenantId, other_tenant: TenantId
) -> None:
    signer = FakeKeyMaker()
    desk = Desk(db=database, tenant=tenant, chain=EVM, keys=signer)
    for each in (tenant, other_tenant):
        await key_pool.refill(database, signer, each, low_water=1, batch_size=2)
    with capture_logs() as quiet:
        await worker.check_pools(database, signer)
    assert quiet == []
    row = forged(desk, "own signature", signer_key(signer, tenant))
    await insert(database, tenant, row)
    with capture_logs() as told:
        await worker.check_pools(database, signer)
    assert [(line["event"], line["tenant"], line["foreign"]) for line in told] == [
        ("deposit_keys.not_ours", tenant, (row["account"],))
    ]


def signer_key(signer: FakeKeyMaker, tenant: TenantId) -> VouchedKey:
    key_id, (_, public) = next(iter(signer.held[tenant].items()))
    return VouchedKey(key_id=key_id, public_key=public, attestation=b"")
