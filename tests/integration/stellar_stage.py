"""A local Stellar network that closes a ledger when it is told to, somebody outside, its ledgers, and a tenant that lists XLM."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from custody.db.session import Database
from custody.kernel.assetid import ChainId, parse_asset_id
from custody.kernel.ids import TenantId
from devnet.stellar.network import LocalNetwork
from devnet.stellar.outsider import Outsider
from devnet.stellar.server import Served, serve_in_thread
from ingestion.stellar.sources import RpcLedgers
from tests.fakes.key_maker import FakeKeyMaker
from tests.integration.ingestion_harness import Desk, open_ledgers

CHAIN = ChainId("stellar:devnet")
XLM = parse_asset_id("stellar:devnet/native")


@pytest.fixture
def served() -> Iterator[Served]:
    """A network that closes a ledger when it is told to."""
    with serve_in_thread(LocalNetwork()) as running:
        yield running


@pytest.fixture
def outsider(served: Served) -> Iterator[Outsider]:
    """Somebody with money."""
    with Outsider(served.url, drive=True) as client:
        yield client


@pytest.fixture
async def source(served: Served, database: Database) -> AsyncIterator[RpcLedgers]:
    """The network's ledgers."""
    opened = open_ledgers(CHAIN, served.url, served.network.passphrase, database)
    yield opened
    await opened.aclose()


@pytest.fixture
async def desk(database: Database, tenant: TenantId) -> Desk:
    """A tenant that lists XLM."""
    made = Desk(db=database, tenant=tenant, chain=CHAIN, keys=FakeKeyMaker())
    await made.list_asset(XLM, "XLM", 7)
    return made
