"""Processes die and lines break in mid-load: nothing acknowledged is lost, nothing doubled, nothing torn.

The long run is `python -m tests.faults.soak`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.faults.cluster import DurableCluster, durable_cluster
from tests.faults.rounds import hostile_network, kill_postgres, kill_service

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def durable() -> Iterator[DurableCluster]:
    with durable_cluster() as cluster:
        yield cluster


@pytest.fixture
def seed() -> int:
    """Of this run; every failure names it."""
    return random.SystemRandom().randrange(2**31)


@pytest.mark.parametrize("number", range(3))
async def test_a_killed_database_keeps_what_it_acknowledged(
    durable: DurableCluster, seed: int, number: int
) -> None:
    figures = await kill_postgres(durable, seed + number)
    assert 0 < figures.before < figures.acknowledged


async def test_a_killed_service_loses_and_doubles_nothing(durable: DurableCluster, seed: int) -> None:
    figures = await kill_service(durable, seed)
    assert 0 < figures.before < figures.acknowledged
    assert figures.unanswered > 0, "the kills met nobody"


async def test_a_network_that_breaks_anywhere_loses_and_doubles_nothing(
    durable: DurableCluster, seed: int
) -> None:
    figures = await hostile_network(durable, seed)
    assert figures.kills > 20
