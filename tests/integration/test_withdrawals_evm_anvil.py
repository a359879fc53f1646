"""EVM nonces on a real node, signed in SoftHSM, seen by our ingestion: prices, drops, cancels, gaps, reverts, many at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from custody.chains.evm.address import checksum
from custody.db.session import Database
from custody.kernel.ids import TenantId
from tests.contract.port_benches import start_signer
from tests.integration.evm_stage import node
from tests.integration.evm_town import AMOUNT, Town, open_town
from tests.integration.signer_harness import SignerProcess

__all__ = ["node"]

pytestmark = pytest.mark.stack

MANY = 30


@pytest.fixture(scope="module")
def signer_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignerProcess]:
    process = start_signer(tmp_path_factory.mktemp("signer"))
    process.hang_up()
    yield process
    process.stop()


@pytest.fixture
async def town(
    database: Database, tenant: TenantId, node: str, signer_process: SignerProcess
) -> AsyncIterator[Town]:
    socket = str(signer_process.directory / "s.sock")
    async with open_town(database, tenant, node, socket, stuck_after_blocks=2) as opened:
        yield opened


async def test_many_wait_for_blocks_at_once_and_a_pool_that_forgets_some_loses_none(town: Town) -> None:
    before = await town.received()
    made = [await town.request() for _ in range(MANY)]
    assert await town.advance_due() == []
    assert await town.states(*made) == ["broadcasting"] * MANY
    assert await town.in_pool() == MANY
    # The node forgets two: what is behind them cannot be mined, and is left as it is.
    lost = sorted(await town.attempts(*made), key=lambda each: each.sequence)[3:5]
    for each in lost:
        await town.outsider.call("anvil_dropTransaction", each.tx_hash)
    await town.mine(4)
    assert (await town.states(*made)).count("broadcasting") == MANY - 3
    for each in made:
        await town.advance(each)
    await town.mine(2)
    assert await town.states(*made) == ["settled"] * MANY
    assert len(await town.attempts(*made)) == MANY
    assert await town.received() == before + MANY * AMOUNT
    assert await town.differs() == 0


async def test_a_day_of_trouble_ends_with_each_nonce_used_once_and_books_that_equal_the_chain(
    town: Town,
) -> None:
    before = await town.received()
    # The base fee rises above what was bid: the same nonce is bid for again, and one of the two is mined.
    outbid = await town.request()
    await town.advance(outbid)
    await town.outsider.call("anvil_setNextBlockBaseFeePerGas", hex(30 * 10**9))
    await town.mine()
    for _ in range(3):
        await town.advance(outbid)
        await town.outsider.call("anvil_setNextBlockBaseFeePerGas", hex(30 * 10**9))
        await town.mine()
    first, *others, last = await town.attempts(outbid)
    assert {each.sequence for each in (first, *others)} == {last.sequence}
    assert [each.state for each in (first, *others)] == ["lapsed"] * (1 + len(others))
    assert (last.state, last.fee_bid > 26 * 10**9 > first.fee_bid) == ("confirmed", True)
    assert await town.states(outbid) == ["settled"]

    # One is cancelled on its nonce before a block takes it.
    stuck = await town.request()
    await town.advance(stuck)
    cancel = await town.cancel(stuck)
    assert await town.advance(cancel) == "broadcasting"
    await town.advance(stuck)
    assert await town.in_pool() == 1
    await town.mine(2)
    assert await town.states(stuck, cancel) == ["failed", "settled"]

    # The signer refuses one that holds a nonce, and nobody comes after what waits behind it.
    gap, behind = await town.request(), await town.request()
    town.signer.unanswered.add(gap.intent)
    assert await town.advance(gap) == "signing"
    assert await town.advance(behind) == "broadcasting"
    town.signer.refused.add(gap.intent)
    assert await town.advance(gap) == "failed"
    await town.mine(2)
    assert await town.states(behind) == ["broadcasting"]
    await town.advance(behind)
    (fill,) = [each for each in await town.all() if each.kind == "evm_fill"]
    assert await town.advance(await town.approve(fill)) == "broadcasting"
    await town.mine(2)
    assert await town.states(behind, fill) == ["settled", "settled"]

    # One that the receiver does not take: mined, failed, its fee is booked and its hold released.
    await town.outsider.call("evm_setAutomine", True)
    contract = checksum(await town.outsider.deploy_token())
    await town.outsider.call("evm_setAutomine", False)
    reverted = await town.request(destination=contract)
    await town.advance(reverted)
    await town.mine(2)
    assert await town.states(reverted) == ["failed"]

    assert await town.received() == before + 2 * AMOUNT
    assert await town.differs() == 0
    assert await town.in_pool() == 0
