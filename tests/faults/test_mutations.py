"""Tests of the tests: with any of its guards taken out, the posting function is caught by a routine of ours."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import asyncpg
import pytest

from custody.assets import service as assets
from custody.db.session import Database
from tests.faults.mutants import MUTANTS, NOTICED, Mutant
from tests.postgres import Cluster
from tests.property.test_ledger_streams import EUR, XLM

Admin: TypeAlias = "asyncpg.Connection[Any]"


@pytest.fixture(scope="module")
async def scratch(cluster: Cluster) -> AsyncIterator[str]:
    """A database for all mutants, one after the other; every routine makes tenants of its own."""
    name = await cluster.create()
    database = Database(cluster.dsn(name, "custody_app"))
    async with database.unit_of_work(None) as uow:
        await assets.register(uow, XLM, "XLM", 7)
        await assets.register(uow, EUR, "EUR", 2)
    await database.close()
    yield name
    await cluster.drop(name)


@pytest.fixture
async def admin(cluster: Cluster, scratch: str) -> AsyncIterator[Admin]:
    connection = await asyncpg.connect(cluster.dsn(scratch))
    yield connection
    await connection.close()


@pytest.fixture
async def product(cluster: Cluster, scratch: str) -> AsyncIterator[Database]:
    """The scratch database as the product sees it. Sessions of this test's own, which know no older function."""
    database = Database(cluster.dsn(scratch, "custody_app"), pool_size=20)
    yield database
    await database.close()


async def definition(admin: Admin, function: str) -> str:
    return str(await admin.fetchval("SELECT pg_get_functiondef($1::text::regproc)", function))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.guard)
async def test_a_broken_guard_is_noticed(
    cluster: Cluster, scratch: str, admin: Admin, product: Database, mutant: Mutant
) -> None:
    # A stream's seed names its tenant: each mutant has seeds of its own, or it would meet what another left behind.
    seed = 100 * MUTANTS.index(mutant)
    sound = await definition(admin, mutant.function)
    assert sound.count(mutant.text) == 1, f"the guard has another text now: {mutant.text}"
    await admin.execute(sound.replace(mutant.text, mutant.instead))
    try:
        assert await definition(admin, mutant.function) != sound
        with pytest.raises(BaseException) as noticed:  # noqa: PT011  # what it must be is asserted below
            await mutant.noticed_by(product, cluster.dsn(scratch, "custody_app"), seed)
    finally:
        await admin.execute(sound)
    errors = leaves(noticed.value)
    assert errors
    assert all(isinstance(error, NOTICED) for error in errors), errors


def leaves(error: BaseException) -> list[BaseException]:
    """The errors of a group, however deep."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


@pytest.mark.parametrize(
    "routine", dict.fromkeys(m.noticed_by for m in MUTANTS), ids=lambda routine: routine.__name__
)
async def test_a_sound_function_is_left_in_peace(
    cluster: Cluster, scratch: str, product: Database, routine: Any
) -> None:
    await routine(product, cluster.dsn(scratch, "custody_app"), random.SystemRandom().randrange(2**31))
