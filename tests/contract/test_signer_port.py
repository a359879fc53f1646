"""What withdrawals lean on in a signer, asked of the fake and of the real one on a SoftHSM token."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from custody.kernel.assetid import ChainId
from custody.kernel.ids import new_uuid
from custody.policy.model import Word
from custody.signing import batches, intents
from custody.signing.errors import SignerRefused, SignerUndecided
from custody.signing.intent_fields import EvmCaps
from custody.signing.model import EvmSlot
from custody.withdrawals.ports import Signer
from tests.contract.port_benches import (
    COOL_DOWN_S,
    FakeBench,
    Key,
    RealBench,
    make_intent,
    make_slot,
    make_source,
    move_slot,
    start_signer,
    veto,
)
from tests.fakes.withdrawal_world import APPROVERS, EVM, STELLAR, make_batch_decision, make_decision

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module", params=["fake", "real"])
def bench(
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
def chain(request: pytest.FixtureRequest) -> ChainId:
    return request.param


async def refused(call) -> str:
    with pytest.raises(SignerRefused) as caught:
        await call
    return caught.value.reason


def approvals(intent: bytes, *names: str):
    return [make_decision(intent, name) for name in names or ("alice", "bob")]


async def test_it_shows_its_policy_and_that_it_can_sign(bench):
    signer: Signer = bench.signer
    policy = await signer.get_policy()
    assert (await signer.health()).policy_version == policy.version == 1
    assert tuple(person.id for person in policy.approvers) == APPROVERS


async def test_same_request_gets_the_same_bytes(bench, chain):
    key = await bench.make_key(chain)
    intent, slot = make_intent(key, chain), make_slot(chain, 7)
    first = await bench.signer.sign(intent, approvals(intent), slot)
    assert await bench.signer.sign(intent, approvals(intent), slot) == first
    assert first.tx_hash.startswith("0x") is (chain == EVM)
    assert len(first.tx_hash.removeprefix("0x")) == 64


async def test_an_intent_is_bound_once(bench, chain):
    key = await bench.make_key(chain)
    intent, slot = make_intent(key, chain), make_slot(chain, 7)
    await bench.signer.sign(intent, approvals(intent), slot)
    assert await refused(bench.signer.sign(intent, approvals(intent), move_slot(slot))) == "already_bound"


async def test_a_slot_serves_one_intent(bench, chain):
    key = await bench.make_key(chain)
    one, other, slot = make_intent(key, chain), make_intent(key, chain), make_slot(chain, 7)
    await bench.signer.sign(one, approvals(one), slot)
    assert await refused(bench.signer.sign(other, approvals(other), slot)) == "slot_used"
    await bench.signer.sign(other, approvals(other), move_slot(slot))


async def test_a_sequence_is_free_again_when_the_bytes_that_held_it_have_lapsed(bench):
    key = await bench.make_key(STELLAR)
    one, other = make_intent(key, STELLAR), make_intent(key, STELLAR)
    brief = replace(make_slot(STELLAR, 7), max_time=int(time.time()) + 2)
    await bench.signer.sign(one, approvals(one), brief)
    assert await refused(bench.signer.sign(other, approvals(other), make_slot(STELLAR, 7))) == "slot_used"
    await asyncio.sleep(brief.max_time + 1.1 - time.time())
    await bench.signer.sign(other, approvals(other), make_slot(STELLAR, 7))


async def test_quorum_is_counted_by_the_signer(bench, chain):
    key = await bench.make_key(chain)
    intent, slot = make_intent(key, chain), make_slot(chain, 7)
    assert await refused(bench.signer.sign(intent, approvals(intent, "alice"), slot)) == "quorum_missing"
    assert await refused(bench.signer.sign(intent, [], slot)) == "quorum_missing"
    await bench.signer.sign(intent, approvals(intent, "alice", "carol"), slot)


async def test_a_rule_with_a_cool_down_signs_only_after_it(bench, chain):
    key = await bench.make_key(chain, "slow")
    intent, slot = make_intent(key, chain, purpose="slow"), make_slot(chain, 7)
    vetoed, other = make_intent(key, chain, purpose="slow"), make_slot(chain, 8)
    assert await refused(bench.signer.sign(intent, approvals(intent, "bob"), slot)) == "quorum_missing"
    for each, place in ((intent, slot), (vetoed, other)):
        with pytest.raises(SignerUndecided, match="cooling_down"):
            await bench.signer.sign(each, approvals(each), place)
    await bench.signer.veto(vetoed, [veto(vetoed)])
    await asyncio.sleep(COOL_DOWN_S + 1.1)
    assert (await bench.signer.sign(intent, approvals(intent), slot)).tx
    assert await refused(bench.signer.sign(vetoed, approvals(vetoed), other)) == "vetoed"


async def test_a_refusal_leaves_intent_and_slot_free(bench, chain):
    key = await bench.make_key(chain)
    one, other, slot = make_intent(key, chain), make_intent(key, chain), make_slot(chain, 7)
    await refused(bench.signer.sign(one, [], slot))
    await bench.signer.sign(other, approvals(other), slot)
    await bench.signer.sign(one, approvals(one), move_slot(slot))


async def test_a_veto_is_final(bench, chain):
    key = await bench.make_key(chain)
    intent = make_intent(key, chain)
    for _ in range(2):
        await bench.signer.veto(intent, [*approvals(intent), veto(intent)])
    assert await refused(bench.signer.sign(intent, approvals(intent), make_slot(chain, 7))) == "vetoed"


async def test_a_veto_needs_a_rejection_and_an_unsigned_intent(bench, chain):
    key = await bench.make_key(chain)
    intent = make_intent(key, chain)
    assert await refused(bench.signer.veto(intent, approvals(intent))) == "no_veto"
    await bench.signer.sign(intent, approvals(intent), make_slot(chain, 7))
    assert await refused(bench.signer.veto(intent, [veto(intent)])) == "already_signed"


async def test_a_closed_window_refuses(bench, chain):
    key = await bench.make_key(chain)
    intent = make_intent(key, chain, valid_s=-1)
    assert await refused(bench.signer.sign(intent, approvals(intent), make_slot(chain, 7))) == "expired"


async def test_bounds_beyond_the_intent_are_no_binding(bench):
    key = await bench.make_key(STELLAR)
    intent = make_intent(key, STELLAR, valid_s=300)
    assert await refused(bench.signer.sign(intent, approvals(intent), make_slot(STELLAR, 7))) == "bad_binding"


def replacement(first: bytes) -> bytes:
    """The same effect again, under the same caps."""
    now = int(time.time())
    return intents.build_replacement_intent(
        first, request_id=new_uuid(), policy_version=1, not_before=now - 60, expires_at=now + 3600
    )


def cancel(key: Key, first: bytes) -> bytes:
    """Nothing, on the nonce of the first."""
    caps = EvmCaps(chain_id=31337, gas_limit=21_000, max_fee_per_gas=10**11, max_priority_fee_per_gas=10**10)
    return intents.build_cancel_intent(make_source(key, EVM), caps, cancels=intents.digest(first))


async def test_the_approvals_of_a_payment_stand_for_its_replacement_on_the_same_nonce(bench):
    key = await bench.make_key(EVM)
    first, slot = make_intent(key, EVM), make_slot(EVM, 7)
    assert isinstance(slot, EvmSlot)
    dearer = EvmSlot(nonce=7, max_fee_per_gas=2 * 10**10, max_priority_fee_per_gas=2 * 10**9)
    again, given = replacement(first), approvals(first)
    assert await refused(bench.signer.sign(again, given, dearer)) == "unknown_intent"
    one = await bench.signer.sign(first, given, slot)
    assert await refused(bench.signer.sign(again, given, slot)) == "underpriced"
    assert await refused(bench.signer.sign(again, given, replace(dearer, nonce=8))) == "bad_binding"
    assert await refused(bench.signer.sign(again, [], dearer)) == "quorum_missing"
    two = await bench.signer.sign(again, given, dearer)
    assert two.tx_hash != one.tx_hash
    assert await bench.signer.sign(again, given, dearer) == two
    assert await bench.signer.sign(first, given, slot) == one


async def test_a_cancel_has_approvals_of_its_own_and_ends_replacements(bench):
    key = await bench.make_key(EVM)
    first = make_intent(key, EVM)
    await bench.signer.sign(first, approvals(first), make_slot(EVM, 7))
    dearer = EvmSlot(nonce=7, max_fee_per_gas=2 * 10**10, max_priority_fee_per_gas=2 * 10**9)
    dearest = EvmSlot(nonce=7, max_fee_per_gas=4 * 10**10, max_priority_fee_per_gas=4 * 10**9)
    asked = cancel(key, first)
    assert await refused(bench.signer.sign(asked, [], dearer)) == "quorum_missing"
    await bench.signer.sign(asked, approvals(asked), dearer)
    assert await refused(bench.signer.sign(replacement(first), approvals(first), dearest)) == "cancelled"
    more = cancel(key, first)
    assert await refused(bench.signer.sign(more, approvals(more), dearer)) == "underpriced"
    await bench.signer.sign(more, approvals(more), dearest)


async def test_a_gap_is_filled_once(bench):
    key = await bench.make_key(EVM)
    caps = EvmCaps(chain_id=31337, gas_limit=21_000, max_fee_per_gas=10**11, max_priority_fee_per_gas=10**10)
    fill = intents.build_fill_intent(make_source(key, EVM), caps)
    signed = await bench.signer.sign(fill, approvals(fill), make_slot(EVM, 7))
    assert await bench.signer.sign(fill, approvals(fill), make_slot(EVM, 7)) == signed
    other = make_intent(key, EVM)
    assert await refused(bench.signer.sign(other, approvals(other), make_slot(EVM, 7))) == "slot_used"


async def test_one_approval_of_a_batch_stands_for_its_lines(bench, chain):
    key = await bench.make_key(chain)
    first = make_intent(key, chain)
    name = intents.show(first)["request_id"]
    lines = [first, first.replace(name.encode(), str(new_uuid()).encode())]
    document, slot = batches.build_document(lines, new_uuid()), make_slot(chain, 7)
    one = [make_batch_decision(document, "alice")]
    await bench.signer.approve_batch(document, lines, one)
    assert await refused(bench.signer.sign(lines[1], [], slot)) == "quorum_missing"
    both = [*one, make_batch_decision(document, "bob")]
    await bench.signer.approve_batch(document, lines, both)
    signed = await bench.signer.sign(lines[1], [], slot)
    assert await bench.signer.sign(lines[1], [], slot) == signed
    rejected = [*both, make_batch_decision(document, "carol", Word.REJECT)]
    assert await refused(bench.signer.approve_batch(document, lines, rejected)) == "vetoed"
    assert await bench.signer.sign(lines[1], [], slot) == signed
    assert await refused(bench.signer.sign(lines[0], [], move_slot(slot))) == "vetoed"


async def test_what_was_given_up_is_never_signed_and_what_is_signed_cannot_be(bench, chain):
    key = await bench.make_key(chain)
    given_up, paid, slot = make_intent(key, chain), make_intent(key, chain), make_slot(chain, 7)
    for _ in range(2):
        await bench.signer.void(given_up)
    assert await refused(bench.signer.sign(given_up, approvals(given_up), slot)) == "voided"
    await bench.signer.sign(paid, approvals(paid), slot)
    assert await refused(bench.signer.void(paid)) == "already_signed"
