"""Who may take a nonce or a sequence: one (key, chain, number) has one effect, and its alternatives exclude each other."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from eth_account import Account
from eth_account.typed_transactions import TypedTransaction
from hexbytes import HexBytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from signer.decide import Decider
from signer.protocol import canonical
from signer.protocol.messages import EvmBinding, KeyView, Sign, Signed
from signer.refusal import HsmFault, Refusal
from signer.slots import ALTERNATIVES_MAX
from tests.fakes.signer_desk import Desk, approved, code_of, make_key
from tests.fakes.signer_hsm import START
from tests.fakes.signer_kinds import EARLIER, bind_kind, make_kind
from tests.fakes.signer_people import (
    RECEIVER,
    TOKEN,
    bind_evm,
    bind_stellar,
    key_rules,
    make_erc20,
    make_payment,
    make_rule,
    make_transfer,
)

GWEI = 10**9
CAPS = {"max_fee_per_gas": 1000 * GWEI, "max_priority_fee_per_gas": 500 * GWEI}


def digest_of(intent: Any) -> str:
    return canonical.digest(canonical.encode(intent)).hex()


def bid(nonce: int, price: int, tip: int) -> EvmBinding:
    return EvmBinding(nonce=nonce, max_fee_per_gas=price, max_priority_fee_per_gas=tip)


def sign_first(decider: Decider, nonce: int = 0) -> tuple[KeyView, Any, Signed]:
    """Sign a transfer at 20 gwei with 1 gwei of tip."""
    key = make_key(decider)
    intent = make_transfer(key, START)
    return key, intent, decider.sign(approved(intent, bind_evm(nonce)))


def replacement(key: KeyView, first: Any, **changes: Any) -> Any:
    fields = {"replaces": digest_of(first), "gas_limit": first.gas_limit, **CAPS}
    return make_kind("evm_replace", key, START, **fields | changes)


def cancel(key: KeyView, first: Any, **changes: Any) -> Any:
    return make_kind(
        "evm_cancel", key, START, **{"cancels": digest_of(first), "gas_limit": 21_000, **CAPS} | changes
    )


def read(signed: Signed) -> dict[str, Any]:
    fields: dict[str, Any] = TypedTransaction.from_bytes(HexBytes(signed.tx)).as_dict()
    return fields


# --- replacement ----------------------------------------------------------------------------------------------------------


def test_a_replacement_takes_the_same_nonce_for_the_same_effect(decider: Decider) -> None:
    key, first, signed = sign_first(decider)
    again = decider.sign(approved(replacement(key, first), bid(0, 22 * GWEI, 11 * GWEI // 10)))
    old, new = read(signed), read(again)
    assert Account.recover_transaction(again.tx) == key.address
    changed = {name for name in old if old[name] != new[name]}
    assert changed - {"v"} == {"maxFeePerGas", "maxPriorityFeePerGas", "r", "s"}
    assert signed.tx_hash != again.tx_hash


def test_the_signers_own_record_says_what_is_replaced(decider: Decider) -> None:
    """The requester shows approvers one effect and names an intent with another."""
    key, first, _ = sign_first(decider)
    dearer = bid(0, 30 * GWEI, 2 * GWEI)
    for changes in (
        {"amount": first.amount + 1},
        {"destination": TOKEN},
        {"asset": TOKEN},
        {"replaced_kind": "evm_sweep"},
        {"gas_limit": first.gas_limit + 1},
    ):
        assert code_of(decider, approved(replacement(key, first, **changes), dearer)) == "effect_differs"
    assert decider.sign(approved(replacement(key, first), dearer))


def test_a_token_transfer_is_replaced_as_one(decider: Decider) -> None:
    key = make_key(decider)
    first = make_erc20(key, START)
    decider.sign(approved(first, bind_evm(0)))
    shown = {
        "replaced_kind": "evm_erc20_transfer",
        "asset": TOKEN,
        "destination": RECEIVER,
        "amount": first.amount,
    }
    again = decider.sign(approved(replacement(key, first, **shown), bid(0, 30 * GWEI, 2 * GWEI)))
    assert (
        bytes(read(again)["data"]).hex()
        == "a9059cbb" + RECEIVER[2:].lower().rjust(64, "0") + f"{first.amount:064x}"
    )


@pytest.mark.parametrize("make", [replacement, cancel])
@pytest.mark.parametrize(
    ("price", "tip", "code"),
    [
        (22 * GWEI - 1, 2 * GWEI, "underpriced"),
        (30 * GWEI, 11 * GWEI // 10 - 1, "underpriced"),
        (20 * GWEI, GWEI, "underpriced"),
        (1001 * GWEI, 2 * GWEI, "bad_binding"),
        (600 * GWEI, 501 * GWEI, "bad_binding"),
        (22 * GWEI, 11 * GWEI // 10, ""),
        (1000 * GWEI, 500 * GWEI, ""),
    ],
)
def test_both_prices_rise_by_a_tenth_and_stay_under_the_caps(
    decider: Decider, make: Callable[..., Any], price: int, tip: int, code: str
) -> None:
    key, first, _ = sign_first(decider)
    asked = approved(make(key, first), bid(0, price, tip))
    if code:
        assert code_of(decider, asked) == code
    else:
        assert decider.sign(asked)


def test_a_tip_of_nothing_rises_too(decider: Decider) -> None:
    key = make_key(decider)
    first = make_transfer(key, START)
    decider.sign(approved(first, bid(0, 9, 0)))
    assert code_of(decider, approved(replacement(key, first), bid(0, 10, 0))) == "underpriced"
    assert decider.sign(approved(replacement(key, first), bid(0, 10, 1)))


def test_a_replacement_must_beat_every_alternative(decider: Decider) -> None:
    key, first, _ = sign_first(decider)
    decider.sign(approved(replacement(key, first), bid(0, 40 * GWEI, 4 * GWEI)))
    assert code_of(decider, approved(replacement(key, first), bid(0, 30 * GWEI, 8 * GWEI))) == "underpriced"
    assert decider.sign(approved(replacement(key, first), bid(0, 44 * GWEI, 8 * GWEI)))


def test_a_nonce_has_a_bounded_number_of_alternatives(decider: Decider) -> None:
    key, first, _ = sign_first(decider)
    price, tip = 20 * GWEI, GWEI
    for _ in range(ALTERNATIVES_MAX - 1):
        price, tip = price * 12 // 10, tip * 12 // 10
        decider.sign(approved(replacement(key, first), bid(0, price, tip)))
    dearest = bid(0, price * 2, tip * 2)
    for intent in (replacement(key, first), cancel(key, first)):
        assert code_of(decider, approved(intent, dearest)) == "too_many_alternatives"


def test_an_alternative_stays_on_the_nonce_of_the_intent_named(decider: Decider) -> None:
    key, first, _ = sign_first(decider, nonce=4)
    decider.sign(approved(make_transfer(key, START), bind_evm(5)))
    for intent in (replacement(key, first), cancel(key, first)):
        for nonce in (3, 5, 6):
            assert code_of(decider, approved(intent, bid(nonce, 30 * GWEI, 2 * GWEI))) == "bad_binding"


@pytest.mark.parametrize("make", [replacement, cancel])
def test_only_what_was_signed_first_by_the_same_key_can_be_named(
    decider: Decider, make: Callable[..., Any]
) -> None:
    key, first, _ = sign_first(decider)
    other = make_key(decider, vault="cold")
    dearer, name = bid(0, 30 * GWEI, 2 * GWEI), "replaces" if make is replacement else "cancels"
    assert code_of(decider, approved(make(key, first, **{name: EARLIER}), dearer)) == "unknown_intent"
    assert code_of(decider, approved(make(other, first), dearer)) == "unknown_intent"
    again = replacement(key, first)
    decider.sign(approved(again, dearer))
    dearest = bid(0, 60 * GWEI, 4 * GWEI)
    assert (
        code_of(decider, approved(make(key, first, **{name: digest_of(again)}), dearest)) == "unknown_intent"
    )
    stellar = make_key(decider, "ed25519")
    payment = make_payment(stellar, START)
    decider.sign(approved(payment, bind_stellar(payment, 1)))
    assert (
        code_of(decider, approved(make(key, first, **{name: digest_of(payment)}), dearest))
        == "unknown_intent"
    )


def test_what_was_bound_but_never_signed_cannot_be_named(signer: Desk) -> None:
    decider = signer.start()
    key = make_key(decider)
    first = make_transfer(key, START)
    signer.token.failing = "sign"
    with pytest.raises(HsmFault):
        decider.sign(approved(first, bind_evm(0)))
    signer.token.failing = ""
    assert code_of(decider, approved(cancel(key, first), bid(0, 30 * GWEI, 2 * GWEI))) == "unknown_intent"


# --- cancel ---------------------------------------------------------------------------------------------------------------


def test_a_cancel_takes_the_nonce_and_sends_nothing(decider: Decider) -> None:
    key, first, _ = sign_first(decider, nonce=2)
    fields = read(decider.sign(approved(cancel(key, first), bid(2, 30 * GWEI, 2 * GWEI))))
    assert (HexBytes(fields["to"]), fields["value"], fields["data"]) == (HexBytes(key.address), 0, b"")
    assert fields["nonce"] == 2


def test_after_a_cancel_only_a_dearer_cancel_may_follow(decider: Decider) -> None:
    key, first, _ = sign_first(decider)
    decider.sign(approved(cancel(key, first), bid(0, 30 * GWEI, 2 * GWEI)))
    dearer = bid(0, 60 * GWEI, 4 * GWEI)
    assert code_of(decider, approved(replacement(key, first), dearer)) == "cancelled"
    assert code_of(decider, approved(cancel(key, first), bid(0, 31 * GWEI, 4 * GWEI))) == "underpriced"
    assert decider.sign(approved(cancel(key, first), dearer))


def test_the_first_intent_still_answers_after_its_cancel(signer: Desk) -> None:
    """Its bytes are out; to forget them would not take them back."""
    decider = signer.start()
    key = make_key(decider)
    first = approved(make_transfer(key, START), bind_evm(0))
    signed = decider.sign(first)
    decider.sign(approved(cancel(key, canonical.decode(first.intent)), bid(0, 30 * GWEI, 2 * GWEI)))
    assert decider.sign(first) == signed
    assert signer.start().sign(first) == signed


def test_a_cancelled_nonce_serves_no_other_intent(signer: Desk) -> None:
    decider = signer.start()
    key, first, _ = sign_first(decider)
    decider.sign(approved(cancel(key, first), bid(0, 30 * GWEI, 2 * GWEI)))
    signer.token.now = START + 10**6
    late = make_transfer(key, START + 10**6)
    assert code_of(signer.start(), approved(late, bid(0, 25 * GWEI, GWEI))) == "slot_used"


def test_alternatives_are_remembered_across_a_restart(signer: Desk) -> None:
    decider = signer.start()
    key, first, _ = sign_first(decider)
    decider.sign(approved(cancel(key, first), bid(0, 30 * GWEI, 2 * GWEI)))
    again = signer.start()
    assert code_of(again, approved(replacement(key, first), bid(0, 60 * GWEI, 4 * GWEI))) == "cancelled"


def test_an_alternative_is_answered_again_with_the_same_bytes(signer: Desk) -> None:
    decider = signer.start()
    key, first, _ = sign_first(decider)
    asked = approved(replacement(key, first), bid(0, 30 * GWEI, 2 * GWEI))
    signer.token.failing = "sign"
    with pytest.raises(HsmFault):
        decider.sign(asked)
    signer.token.failing = ""
    signed = decider.sign(asked)
    assert signer.start().sign(asked) == signed
    assert code_of(decider, replace(asked, binding=bid(0, 40 * GWEI, 4 * GWEI))) == "already_bound"


def test_a_replacement_counts_once_against_velocity(make_signer: Callable[..., Desk]) -> None:
    window = {"seconds": 1000, "amount_max": str(10**18), "count_max": 9}
    rule = make_rule("capped", asset="native", amount_max=str(10**18), windows=[window])
    decider = make_signer(allow=[rule, *key_rules()]).start()
    key, first, _ = sign_first(decider)
    assert decider.sign(approved(replacement(key, first), bid(0, 30 * GWEI, 2 * GWEI)))
    assert decider.sign(approved(cancel(key, first), bid(0, 40 * GWEI, 4 * GWEI)))
    assert code_of(decider, approved(make_transfer(key, START, amount=1), bind_evm(1))) == "over_velocity"


# --- whose slot it is -----------------------------------------------------------------------------------------------------


def sign_channel(decider: Decider, source: KeyView, channel: KeyView, sequence: int) -> Sign:
    intent = make_kind("stellar_channel_payment", source, START, channel=channel.address, asset="native")
    return approved(intent, bind_stellar(intent, sequence))


def test_a_channel_payment_uses_the_channels_sequence_and_not_the_sources(decider: Decider) -> None:
    source, channel = make_key(decider, "ed25519"), make_key(decider, "ed25519", vault="channels")
    decider.sign(sign_channel(decider, source, channel, 7))
    assert code_of(decider, sign_channel(decider, source, channel, 7)) == "slot_used"
    own = make_payment(channel, START)
    assert code_of(decider, approved(own, bind_stellar(own, 7))) == "slot_used"
    payment = make_payment(source, START)
    assert decider.sign(approved(payment, bind_stellar(payment, 7)))


def test_a_stellar_sequence_is_free_again_after_its_time_whoever_lent_it(signer: Desk) -> None:
    decider = signer.start()
    source, channel = make_key(decider, "ed25519"), make_key(decider, "ed25519", vault="channels")
    decider.sign(sign_channel(decider, source, channel, 7))
    signer.token.now = START + 601
    late = make_kind("stellar_channel_payment", source, START + 601, channel=channel.address)
    assert signer.start().sign(approved(late, bind_stellar(late, 7)))


def test_a_contract_call_has_a_sequence_like_any_other(signer: Desk) -> None:
    decider = signer.start()
    key = make_key(decider, "ed25519")
    call = make_kind("stellar_contract_payment", key, START)
    decider.sign(approved(call, bind_kind(call, 7)))
    payment = make_payment(key, START)
    assert code_of(decider, approved(payment, bind_stellar(payment, 7))) == "slot_used"
    signer.token.now = START + 601
    late = make_payment(key, START + 601)
    assert decider.sign(approved(late, bind_stellar(late, 7)))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["first", "replace", "cancel", "wait", "die"]), st.integers(0, 2)),
        max_size=14,
    )
)
def test_whatever_is_asked_one_nonce_has_one_effect_or_none(
    make_signer: Callable[..., Desk], steps: list[tuple[str, int]]
) -> None:
    """All transactions signed for a nonce do the same, or nothing; so whichever is mined, nothing happens twice."""
    signer = make_signer()
    decider = signer.start()
    key = make_key(decider)
    named: dict[int, Any] = {}
    signed: dict[int, set[tuple[object, ...]]] = {}
    price = 10
    for step, nonce in steps:
        price = price * 12 // 10 + 1
        if step == "wait":
            signer.token.now += 601
            continue
        if step == "die":
            decider = signer.start()
            continue
        now = signer.token.now
        first = named.get(nonce, make_transfer(key, START))
        window = {"not_before": now - 5, "expires_at": now + 600}
        if step == "first":
            intent = make_transfer(key, START, amount=price, **CAPS, **window)
        elif step == "replace":
            intent = replacement(key, first, amount=first.amount, **window)
        else:
            intent = cancel(key, first, **window)
        try:
            fields = read(decider.sign(approved(intent, bid(nonce, price, price))))
        except Refusal:
            continue
        if step == "first":
            named[nonce] = intent
        effect = (bytes(fields["to"]), fields["value"], bytes(fields["data"]))
        if step != "cancel":
            signed.setdefault(nonce, set()).add(effect)
        else:
            assert effect == (bytes(HexBytes(key.address)), 0, b"")
    assert all(len(effects) == 1 for effects in signed.values())
