"""The way to a signature, refusal by refusal: people, veto, key, network, time, policy version, binding and slots."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from eth_account import Account

from signer.decide import Decider
from signer.protocol import canonical
from signer.protocol.approvals import RawSignature
from signer.protocol.messages import Sign, Veto
from signer.refusal import Refusal
from tests.fakes.signer_desk import Desk, approved, code_of, make_key, request
from tests.fakes.signer_hsm import START
from tests.fakes.signer_people import (
    APPROVERS,
    RECEIVER,
    approve,
    approver_key,
    bind_evm,
    bind_stellar,
    key_entry,
    make_erc20,
    make_payment,
    make_transfer,
)

# --- quorum -------------------------------------------------------------------------------------------------------------


def test_two_people_suffice_and_one_does_not(decider: Decider) -> None:
    key = make_key(decider)
    intent = make_transfer(key, START)
    assert code_of(decider, approved(intent, bind_evm(0), "alice")) == "quorum_missing"
    assert Account.recover_transaction(decider.sign(approved(intent, bind_evm(0))).tx) == key.address


def test_no_approval_is_not_enough(decider: Decider) -> None:
    assert (
        code_of(decider, request(make_transfer(make_key(decider), START), (), bind_evm(0)))
        == "quorum_missing"
    )


def test_the_same_person_twice_is_refused(decider: Decider) -> None:
    asked = approved(make_transfer(make_key(decider), START), bind_evm(0), "alice", "alice")
    assert code_of(decider, asked) == "duplicate_approver"


def test_two_keys_of_one_person_count_once(make_signer: Callable[..., Desk]) -> None:
    people = [
        {"id": "alice", "keys": [key_entry(approver_key("alice")), key_entry(approver_key("bob"))],
         "groups": ["treasury"]},
        {"id": "carol", "keys": [key_entry(approver_key("carol"))], "groups": ["treasury"]},
    ]  # fmt: skip
    decider = make_signer(approvers=people).start()
    intent = make_transfer(make_key(decider), START)
    first, second = approve(canonical.encode(intent), "alice", "bob")
    twice = request(intent, (first, replace(second, approver="alice")), bind_evm(0))
    assert code_of(decider, twice) == "duplicate_approver"


def test_one_key_under_two_names_is_refused(decider: Decider) -> None:
    intent = make_transfer(make_key(decider), START)
    (alice,) = approve(canonical.encode(intent), "alice")
    asked = request(intent, (alice, replace(alice, approver="bob")), bind_evm(0))
    assert code_of(decider, asked) == "unknown_approver_key"


def test_the_initiator_may_not_approve_but_may_veto(decider: Decider) -> None:
    intent = make_transfer(make_key(decider), START, initiator="alice")
    assert code_of(decider, approved(intent, bind_evm(0), "alice", "bob")) == "initiator_approved"
    data = canonical.encode(intent)
    decider.veto(Veto(intent=data, approvals=approve(data, "alice", decision="reject")))
    assert code_of(decider, approved(intent, bind_evm(0), "bob", "carol")) == "vetoed"


def test_a_stranger_refuses_the_whole_request(decider: Decider) -> None:
    asked = approved(make_transfer(make_key(decider), START), bind_evm(0), "alice", "bob", "mallory")
    assert code_of(decider, asked) == "unknown_approver"


def test_a_person_of_another_group_does_not_count(make_signer: Callable[..., Desk]) -> None:
    groups = {"alice": ["treasury"], "bob": ["treasury"], "carol": ["audit"]}
    people = [{"id": n, "keys": [key_entry(approver_key(n))], "groups": groups[n]} for n in APPROVERS]
    decider = make_signer(approvers=people).start()
    intent = make_transfer(make_key(decider), START)
    assert code_of(decider, approved(intent, bind_evm(0), "alice", "carol")) == "quorum_missing"
    assert decider.sign(approved(intent, bind_evm(0), "alice", "bob"))


@pytest.mark.parametrize(
    "changes",
    [
        {"decision": "reject"},
        {"version": 2},
    ],
)
def test_an_approval_for_another_domain_does_not_verify(decider: Decider, changes: dict[str, object]) -> None:
    intent = make_transfer(make_key(decider), START)
    forged = [
        replace(one, decision="approve") for one in approve(canonical.encode(intent), "alice", **changes)
    ]
    assert code_of(decider, request(intent, tuple(forged), bind_evm(0))) == "bad_approval_signature"


def test_a_signature_over_the_bare_digest_does_not_verify(decider: Decider) -> None:
    intent = make_transfer(make_key(decider), START)
    data = canonical.encode(intent)
    (alice,) = approve(data, "alice")
    bare = replace(alice, evidence=RawSignature(signature=approver_key("alice").sign(canonical.digest(data))))
    assert code_of(decider, request(intent, (bare,), bind_evm(0))) == "bad_approval_signature"


@pytest.mark.parametrize(
    "spoil", [lambda raw: raw[:-1], lambda raw: raw + b"\0", lambda raw: b"\0" + raw[1:], lambda _: b""]
)
def test_a_spoilt_signature_is_refused(decider: Decider, spoil: Callable[[bytes], bytes]) -> None:
    intent = make_transfer(make_key(decider), START)
    alice, bob = approve(canonical.encode(intent), "alice", "bob")
    assert isinstance(bob.evidence, RawSignature)
    spoilt = replace(bob, evidence=RawSignature(signature=spoil(bob.evidence.signature)))
    asked = request(intent, (alice, spoilt), bind_evm(0))
    assert code_of(decider, asked) == "bad_approval_signature"


def test_an_unknown_decision_is_refused(decider: Decider) -> None:
    intent = make_transfer(make_key(decider), START)
    (alice,) = approve(canonical.encode(intent), "alice")
    assert code_of(decider, request(intent, (replace(alice, decision="ok"),), bind_evm(0))) == "bad_decision"


def test_approvals_of_one_intent_do_not_serve_another(decider: Decider) -> None:
    key = make_key(decider)
    approvals = approve(canonical.encode(make_transfer(key, START)), "alice", "bob")
    other = make_transfer(key, START, amount=2 * 10**18)
    assert code_of(decider, request(other, approvals, bind_evm(0))) == "bad_approval_signature"


def test_a_veto_in_the_request_ends_the_intent(decider: Decider) -> None:
    intent = make_transfer(make_key(decider), START)
    data = canonical.encode(intent)
    votes = (*approve(data, "alice", "bob"), *approve(data, "carol", decision="reject"))
    assert code_of(decider, request(intent, votes, bind_evm(0))) == "vetoed"
    assert code_of(decider, approved(intent, bind_evm(0))) == "vetoed"


def test_a_veto_needs_a_valid_rejection_and_comes_before_the_signature(decider: Decider) -> None:
    intent = make_transfer(make_key(decider), START)
    data = canonical.encode(intent)
    with pytest.raises(Refusal, match="no_veto"):
        decider.veto(Veto(intent=data, approvals=approve(data, "alice")))
    with pytest.raises(Refusal, match="unknown_approver"):
        decider.veto(Veto(intent=data, approvals=approve(data, "mallory", decision="reject")))
    decider.sign(approved(intent, bind_evm(0)))
    with pytest.raises(Refusal, match="already_signed"):
        decider.veto(Veto(intent=data, approvals=approve(data, "carol", decision="reject")))


# --- key, source, network ----------------------------------------------------------------------------------------------


def test_a_key_serves_only_its_org_vault_curve_and_address(decider: Decider) -> None:
    key, other = make_key(decider), make_key(decider, vault="cold")
    stellar = make_key(decider, "ed25519")
    for intent, code in (
        (make_transfer(key, START, org="evil"), "unknown_key"),
        (make_transfer(key, START, vault="cold"), "unknown_key"),
        (make_transfer(key, START, key_id="0" * 32), "unknown_key"),
        (make_transfer(key, START, source=other.address), "source_mismatch"),
        (make_transfer(key, START, source=key.address.lower()), "source_mismatch"),
        (make_transfer(stellar, START, source=key.address), "source_mismatch"),
        (make_payment(key, START, source=stellar.address), "source_mismatch"),
        (make_transfer(key, START, destination=RECEIVER.lower()), "bad_checksum"),
        (replace(make_erc20(key, START), token=RECEIVER.swapcase().replace("0X", "0x"), destination=other.address),
         "bad_checksum"),
    ):  # fmt: skip
        assert code_of(decider, approved(intent, bind_evm(0))) == code


def test_a_passphrase_cannot_be_swapped_under_a_chain_name(decider: Decider) -> None:
    key = make_key(decider, "ed25519")
    for changes in ({"network_id": "00" * 32}, {"chain": "stellar:pubnet"}):
        intent = make_payment(key, START, **changes)
        assert code_of(decider, approved(intent, bind_stellar(intent, 1))) == "unknown_network"


def test_an_account_that_nobody_can_hold_is_refused(decider: Decider) -> None:
    nobody = "GAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAWHF"
    intent = make_payment(make_key(decider, "ed25519"), START, destination=nobody)
    assert code_of(decider, approved(intent, bind_stellar(intent, 1))) == "bad_checksum"


def test_bytes_that_are_no_intent_are_refused(decider: Decider) -> None:
    assert code_of(decider, Sign(intent=b"{}", approvals=(), binding=bind_evm(0))) == "malformed_intent"


# --- time and policy version ---------------------------------------------------------------------------------------------


def test_the_window_is_closed_below_and_open_above(signer: Desk) -> None:
    decider = signer.start()
    key = make_key(decider)
    intent = make_transfer(key, START, not_before=START + 10, expires_at=START + 20)
    for now, code in ((START + 9, "not_yet"), (START + 20, "expired")):
        signer.token.now = now
        assert code_of(decider, approved(intent, bind_evm(0))) == code
    late = make_transfer(key, START, not_before=START + 20, expires_at=START + 21)
    assert decider.sign(approved(late, bind_evm(0)))


def test_a_clock_that_runs_backwards_stops_signing(signer: Desk) -> None:
    decider = signer.start()
    key = make_key(decider)
    signer.token.now = START + 100
    intent = make_transfer(key, START, expires_at=START + 50)
    assert code_of(decider, approved(intent, bind_evm(0))) == "expired"
    signer.token.now = START
    assert code_of(decider, approved(intent, bind_evm(0))) == "clock_backwards"


def test_the_journal_remembers_the_time_across_a_restart(signer: Desk) -> None:
    decider = signer.start()
    key = make_key(decider)
    signer.token.now = START + 100
    decider.sign(approved(make_transfer(key, START), bind_evm(0)))
    signer.token.now = START + 99
    assert code_of(signer.start(), approved(make_transfer(key, START), bind_evm(1))) == "clock_backwards"


def test_another_policy_version_is_refused(decider: Decider) -> None:
    intent = make_transfer(make_key(decider), START, policy_version=2)
    assert code_of(decider, approved(intent, bind_evm(0))) == "wrong_policy_version"


# --- binding, slots, replay ----------------------------------------------------------------------------------------------


def test_a_binding_can_only_narrow_the_intent(decider: Decider) -> None:
    evm, stellar = make_key(decider), make_key(decider, "ed25519")
    transfer, payment = make_transfer(evm, START), make_payment(stellar, START)
    good = bind_stellar(payment, 1)
    for intent, binding in (
        (transfer, replace(bind_evm(0), max_fee_per_gas=transfer.max_fee_per_gas + 1)),
        (transfer, replace(bind_evm(0), max_fee_per_gas=0, max_priority_fee_per_gas=0)),
        (transfer, replace(bind_evm(0), max_priority_fee_per_gas=transfer.max_priority_fee_per_gas + 1)),
        (transfer, replace(bind_evm(0), max_fee_per_gas=10**8)),
        (transfer, bind_evm(-1)),
        (transfer, bind_evm(2**64 - 1)),
        (transfer, good),
        (payment, bind_evm(0)),
        (payment, replace(good, fee=payment.max_fee + 1)),
        (payment, replace(good, fee=99)),
        (payment, replace(good, max_time=payment.expires_at + 1)),
        (payment, replace(good, max_time=START)),
        (payment, replace(good, max_time=0)),
        (payment, replace(good, sequence=0)),
        (payment, replace(good, sequence=2**63)),
        (payment, replace(good, max_ledger=2**32)),
        (payment, replace(good, min_ledger=-1)),
        (payment, replace(good, min_ledger=5_000)),
    ):
        assert code_of(decider, approved(intent, binding)) == "bad_binding", binding
    assert decider.sign(approved(payment, replace(good, min_ledger=4_999)))


def test_one_nonce_has_one_effect_per_key_and_chain(decider: Decider) -> None:
    one, two = make_key(decider), make_key(decider, vault="cold")
    decider.sign(approved(make_transfer(one, START), bind_evm(7)))
    assert code_of(decider, approved(make_transfer(one, START), bind_evm(7))) == "slot_used"
    assert decider.sign(approved(make_transfer(two, START), bind_evm(7)))
    assert decider.sign(approved(make_transfer(one, START), bind_evm(8)))


def test_a_signed_intent_answers_the_same_for_ever(signer: Desk) -> None:
    decider = signer.start()
    asked = approved(make_transfer(make_key(decider), START), bind_evm(0))
    first = decider.sign(asked)
    signer.token.now = START + 10_000
    assert decider.sign(asked) == first
    assert signer.start().sign(replace(asked, approvals=())) == first
    assert signer.token.calls.count("sign") == 0


def test_an_intent_is_bound_once(decider: Decider) -> None:
    intent = make_transfer(make_key(decider), START)
    decider.sign(approved(intent, bind_evm(0)))
    assert code_of(decider, approved(intent, bind_evm(1))) == "already_bound"
    cheaper = replace(bind_evm(0), max_priority_fee_per_gas=0)
    assert code_of(decider, approved(intent, cheaper)) == "already_bound"
