"""Fixtures that every test may ask for. Nothing is started unless a test needs it."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from custody.db.session import Database
from custody.identity import service as identity
from custody.kernel.ids import TenantId
from tests.fakes.event_schemas import broken_promises
from tests.integration.api_harness import Harness, running
from tests.postgres import Cluster, running_cluster

ROOT = Path(__file__).parent.parent
LONG = (
    "e2e/test_story.py",
    "integration/test_devnet_stack_up.py",
    "integration/test_seals_anchors_process.py",
    "integration/test_api_passkeys.py",
    "integration/test_signer_startup.py",
    "integration/test_withdrawals_bench.py",
    "integration/test_evm_bench.py",
    "integration/test_api_bench.py",
    "integration/test_signer_bench.py",
    "integration/test_withdrawals_processes.py",
    "integration/test_api_access.py",
    "integration/test_ingestion_command.py",
    "integration/test_seals_process.py",
    "integration/test_withdrawals_channels.py",
    "integration/test_api_load.py",
    "integration/test_api_fuzz.py",
    "integration/test_api_schemathesis.py",
    "property/test_ingestion_evm_walk.py",
    "faults/test_kills.py",
    "faults/test_mutations.py",
    "redteam/test_keys.py",
)
"""Files that take longest, for `pytest -n`: begun first, so that at the end no process works on one of them alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; everything else stays in its order."""
    turn = {ROOT / "tests" / name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: turn.get(item.path, len(LONG)))


def pytest_configure() -> None:
    """Look for cycles seldom: collecting the tests takes 9 s of CPU instead of 15."""
    gc.set_threshold(50_000, 20, 50)


def pytest_collection_finish() -> None:
    """What was imported stays until the end, so no search has to pass through it."""
    gc.freeze()


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """Real ledgers, blocks and files that lie beside the project; tests that need them skip where they are missing."""
    home = Path(os.environ.get("CUSTODY_FIXTURES", str(ROOT.parent / "shared" / "fixtures")))
    if not home.is_dir():
        pytest.skip("the real-data fixtures are not beside this checkout (set CUSTODY_FIXTURES)")
    return home


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real Postgres for this test process."""
    with running_cluster() as started:
        yield started


@pytest.fixture
async def database_name(cluster: Cluster, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A migrated database of this test's own; one that none had before where the server's own work is counted."""
    name = await cluster.create(unused=request.node.get_closest_marker("unused_database") is not None)
    yield name
    await cluster.release(name)


@pytest.fixture
def admin_dsn(cluster: Cluster, database_name: str) -> str:
    """How an administrator reaches this test's database."""
    return cluster.dsn(database_name)


@pytest.fixture
def app_dsn(cluster: Cluster, database_name: str) -> str:
    """How the product reaches this test's database: as custody_app, with no rights beyond its grants."""
    return cluster.dsn(database_name, "custody_app")


@pytest.fixture
async def database(app_dsn: str) -> AsyncIterator[Database]:
    """This test's database, seen as the product sees it."""
    opened = Database(app_dsn, pool_size=20)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
async def shared_api(cluster: Cluster) -> AsyncIterator[Harness]:
    """An API with two furnished tenants, one for all tests of a process that leave it usable for the next."""
    name = await cluster.create()
    opened = Database(cluster.dsn(name, "custody_app"), pool_size=20)
    async with running(opened) as harness:
        yield harness
    await opened.close()
    await cluster.drop(name)


@pytest.fixture
async def tenant(database: Database) -> TenantId:
    """A fresh tenant."""
    async with database.unit_of_work(None) as uow:
        return await identity.create_tenant(uow, "acme")


@pytest.fixture
async def told_as_promised(database: Database, tenant: TenantId) -> AsyncIterator[None]:
    """After the test: every event of the tenant holds what its published schema says, and nothing more."""
    yield
    assert await broken_promises(database, tenant) == []


@pytest.fixture
async def other_tenant(database: Database) -> TenantId:
    """Another tenant, whose things must stay unseen."""
    async with database.unit_of_work(None) as uow:
        return await identity.create_tenant(uow, "rival")
