"""What withdrawals lean on in a chain's client, asked of the fake chain, the local Stellar network and anvil."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from custody.chains.ports import SubmissionStatus
from custody.kernel.assetid import native
from tests.contract.port_benches import ChainBench, FakeBench, RealBench, open_chain, start_signer
from tests.fakes.withdrawal_world import EVM, STELLAR

pytestmark = pytest.mark.stack

ON_ITS_WAY = {SubmissionStatus.ACCEPTED, SubmissionStatus.TRY_LATER}


@pytest.fixture(scope="module", params=["fake", "real"])
def signers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FakeBench | RealBench]:
    if request.param == "fake":
        yield FakeBench()
        return
    process = start_signer(tmp_path_factory.mktemp("signer"))
    process.hang_up()
    yield RealBench(process)
    process.stop()


@pytest.fixture(params=[STELLAR, EVM])
async def bench(request: pytest.FixtureRequest, signers, tmp_path: Path) -> AsyncIterator[ChainBench]:
    async with open_chain(request.param, signers, tmp_path) as opened:
        yield opened


async def test_a_transaction_is_accepted_and_uses_its_sequence_once_in_a_block(bench: ChainBench):
    before, head = await bench.client.next_sequence(bench.key.account), await bench.client.head()
    signed = await bench.sign(before)
    assert (await bench.client.submit(signed.tx, signed.tx_hash)).status is SubmissionStatus.ACCEPTED
    await bench.close_block()
    assert await bench.client.next_sequence(bench.key.account) == before + 1
    assert (await bench.client.head()).height == head.height + 1


async def test_the_same_bytes_again_are_never_refused(bench: ChainBench):
    sequence = await bench.client.next_sequence(bench.key.account)
    signed = await bench.sign(sequence)
    for _ in range(3):
        assert (await bench.client.submit(signed.tx, signed.tx_hash)).status in ON_ITS_WAY
    await bench.close_block()
    after = await bench.client.submit(signed.tx, signed.tx_hash)
    assert after.status is not SubmissionStatus.REFUSED
    await bench.close_block()
    assert await bench.client.next_sequence(bench.key.account) == sequence + 1


async def test_another_transaction_with_a_used_sequence_never_applies(bench: ChainBench):
    sequence = await bench.client.next_sequence(bench.key.account)
    if sequence == 0:
        first = await bench.sign(0)
        await bench.client.submit(first.tx, first.tx_hash)
        await bench.close_block()
        sequence = 1
    stale = await bench.sign(sequence + 1)
    fresh = await bench.sign(sequence)
    await bench.client.submit(fresh.tx, fresh.tx_hash)
    await bench.close_block()
    await bench.client.submit(stale.tx, stale.tx_hash)
    await bench.client.submit(fresh.tx, fresh.tx_hash)
    await bench.close_block()
    assert await bench.client.next_sequence(bench.key.account) == sequence + 2


async def test_next_sequence_of_a_chain_that_queues_counts_what_is_queued(bench: ChainBench):
    sequence = await bench.client.next_sequence(bench.key.account)
    signed = await bench.sign(sequence)
    await bench.client.submit(signed.tx, signed.tx_hash)
    expected = sequence if bench.chain == STELLAR else sequence + 1
    assert await bench.client.next_sequence(bench.key.account) == expected
    assert await bench.client.mined_sequence(bench.key.account) == sequence
    await bench.close_block()
    assert await bench.client.mined_sequence(bench.key.account) == sequence + 1


async def test_one_transaction_per_stellar_source_is_queued(bench: ChainBench):
    if bench.chain != STELLAR:
        pytest.skip("EVM nodes queue many")
    sequence = await bench.client.next_sequence(bench.key.account)
    first, second = await bench.sign(sequence), await bench.sign(sequence + 1)
    assert (await bench.client.submit(first.tx, first.tx_hash)).status is SubmissionStatus.ACCEPTED
    assert (await bench.client.submit(second.tx, second.tx_hash)).status is SubmissionStatus.TRY_LATER


async def test_fees_and_balances_are_answered(bench: ChainBench):
    quote = await bench.client.fees()
    assert (quote.fee_stroops > 0) is (bench.chain == STELLAR)
    assert (quote.max_fee_per_gas_wei > 0) is (bench.chain == EVM)
    held = await bench.client.balance(bench.key.account, native(bench.chain), None)
    assert held.amount >= 0
    assert held.height == (await bench.client.head()).height
