"""Attacks with approvals on a signer that has people with passkeys and keys of every kind; each is refused with its code."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from signer.counters import Counted, Counters
from signer.decide import Decider
from signer.policy.document import parse_policy
from signer.protocol import canonical
from signer.protocol.approvals import Approval, Assertion, approval_message
from signer.protocol.intent import EvmTransfer
from signer.protocol.messages import KeyView, Sign, Veto
from tests.fakes.authenticator import Authenticator, Bend, malleate, private_key, sign_raw_p256, spell
from tests.fakes.signer_desk import Desk, code_of, make_key, request
from tests.fakes.signer_hsm import START
from tests.fakes.signer_people import approve, approver_key, bind_evm, key_entry, make_transfer, policy_bytes


@dataclass
class Office:
    """Alice has two devices, Bob a synced passkey and a P-256 key, Carol an Ed25519 key; two of them suffice."""

    desk: Desk
    alice: Authenticator
    alice_too: Authenticator
    bob: Authenticator
    decider: Decider
    key: KeyView

    def intent(self, **changes: object) -> EvmTransfer:
        return make_transfer(self.key, START, **changes)

    def ask(self, *approvals: Approval, intent: EvmTransfer, nonce: int = 0) -> Sign:
        return request(intent, approvals, bind_evm(nonce))

    def bob_by_hand(self, intent: EvmTransfer, *, high: bool = False) -> Approval:
        key = private_key("p256", "bob")
        digest = canonical.digest(canonical.encode(intent))
        message = approval_message(decision="approve", digest=digest, approver_set_version=1)
        evidence = sign_raw_p256(key, message, high=high)
        return Approval(approver="bob", public_key=spell(key), decision="approve", evidence=evidence)


@pytest.fixture
def office(make_signer: Callable[..., Desk]) -> Office:
    alice = Authenticator(name="alice")
    alice_too = Authenticator(name="alice-phone", algorithm="RS256", device_bound=False)
    bob = Authenticator(name="bob", algorithm="EdDSA", device_bound=False)
    by_hand = {"type": "p256", "public_key": spell(private_key("p256", "bob"))}
    keys = {
        "alice": [alice.entry(), alice_too.entry()],
        "bob": [bob.entry(), by_hand],
        "carol": [key_entry(approver_key("carol"))],
    }
    desk = make_signer(
        approvers=[{"id": name, "keys": held, "groups": ["treasury"]} for name, held in keys.items()]
    )
    decider = desk.start()
    return Office(desk, alice, alice_too, bob, decider, make_key(decider))


def test_people_with_any_kind_of_key_make_a_quorum(office: Office) -> None:
    intent = office.intent()
    data = canonical.encode(intent)
    mixed = [office.alice.approve(data), office.bob_by_hand(intent), *approve(data, "carol")]
    signed = office.decider.sign(office.ask(*mixed, intent=intent))
    assert office.desk.start().sign(office.ask(intent=intent)) == signed


def test_one_person_with_two_devices_counts_once(office: Office) -> None:
    intent = office.intent()
    data = canonical.encode(intent)
    twice = [office.alice.approve(data), office.alice_too.approve(data, approver="alice")]
    assert code_of(office.decider, office.ask(*twice, intent=intent)) == "duplicate_approver"


def test_a_malleated_twin_is_no_second_approval(office: Office) -> None:
    intent = office.intent()
    honest = office.alice.approve(canonical.encode(intent))
    assert isinstance(honest.evidence, Assertion)
    twin = replace(honest, evidence=replace(honest.evidence, signature=malleate(honest.evidence.signature)))
    assert code_of(office.decider, office.ask(honest, twin, intent=intent)) == "duplicate_approver"
    assert code_of(office.decider, office.ask(twin, intent=intent)) == "quorum_missing"


def test_a_high_s_of_a_raw_key_is_refused(office: Office) -> None:
    intent = office.intent()
    forged = office.bob_by_hand(intent, high=True)
    assert code_of(office.decider, office.ask(forged, intent=intent)) == "bad_approval_signature"


def test_an_approval_of_another_intent_is_refused(office: Office) -> None:
    other = office.alice.approve(canonical.encode(office.intent(amount=5)))
    assert code_of(office.decider, office.ask(other, intent=office.intent())) == "wrong_challenge"


def test_a_rejection_is_no_approval(office: Office) -> None:
    intent = office.intent()
    rejected = replace(office.alice.approve(canonical.encode(intent), decision="reject"), decision="approve")
    assert code_of(office.decider, office.ask(rejected, intent=intent)) == "wrong_challenge"


def test_an_approval_under_another_approver_set_is_refused(office: Office) -> None:
    intent = office.intent()
    old = office.alice.approve(canonical.encode(intent), version=2)
    assert code_of(office.decider, office.ask(old, intent=intent)) == "wrong_challenge"


def test_the_initiators_passkey_may_not_approve(office: Office) -> None:
    intent = office.intent(initiator="alice")
    own = office.alice.approve(canonical.encode(intent))
    assert code_of(office.decider, office.ask(own, intent=intent)) == "initiator_approved"


def test_a_passkey_vetoes_for_good(office: Office) -> None:
    intent = office.intent()
    data = canonical.encode(intent)
    office.decider.veto(Veto(intent=data, approvals=(office.bob.approve(data, decision="reject"),)))
    late = [office.alice.approve(data), *approve(data, "carol")]
    assert code_of(office.decider, office.ask(*late, intent=intent)) == "vetoed"


def test_a_passkey_under_another_name_is_refused(office: Office) -> None:
    intent = office.intent()
    data = canonical.encode(intent)
    for name, code in (("bob", "unknown_approver_key"), ("mallory", "unknown_approver")):
        assert (
            code_of(office.decider, office.ask(office.alice.approve(data, approver=name), intent=intent))
            == code
        )


def test_the_other_devices_key_does_not_cover_this_ones_credential(office: Office) -> None:
    intent = office.intent()
    honest = office.alice.approve(canonical.encode(intent))
    swapped = replace(honest, public_key=spell(office.alice_too.key))
    assert code_of(office.decider, office.ask(swapped, intent=intent)) == "wrong_credential"


@pytest.mark.parametrize(
    ("bend", "code"),
    [
        (Bend(client={"crossOrigin": True}), "cross_origin"),
        (Bend(origin="https://evil.example"), "wrong_origin"),
        (Bend(rp_id="evil.example"), "wrong_rp_id"),
        (Bend(type="webauthn.create"), "wrong_ceremony"),
        (Bend(flags=0x01), "user_not_verified"),
        (Bend(flags=0x04), "user_not_present"),
        (Bend(flags=0x0D), "backup_mismatch"),
        (Bend(credential_id="AAAA"), "wrong_credential"),
    ],
)
def test_one_bent_assertion_refuses_the_whole_request(office: Office, bend: Bend, code: str) -> None:
    intent = office.intent()
    data = canonical.encode(intent)
    asked = office.ask(
        office.alice.approve(data, bend), *approve(data, "carol"), office.bob_by_hand(intent), intent=intent
    )
    assert code_of(office.decider, asked) == code
    assert office.desk.record is not None
    assert not office.desk.record.state.bound


# --- counters -----------------------------------------------------------------------------------------------------------


def spend(office: Office, counter: int, nonce: int, **changes: object) -> Sign:
    intent = office.intent(**changes)
    data = canonical.encode(intent)
    return office.ask(
        office.alice.approve(data, Bend(counter=counter)), *approve(data, "carol"), intent=intent, nonce=nonce
    )


def test_a_counter_serves_one_intent_only_also_after_a_restart(office: Office) -> None:
    office.decider.sign(spend(office, 7, 0))
    assert code_of(office.decider, spend(office, 7, 1)) == "counter_regressed"
    restarted = office.desk.start()
    assert code_of(restarted, spend(office, 7, 1)) == "counter_regressed"
    assert restarted.sign(spend(office, 8, 1))


def test_a_lower_counter_for_an_intent_made_later_is_a_copied_authenticator(office: Office) -> None:
    office.decider.sign(spend(office, 7, 0))
    office.desk.token.now += 60
    later = {"not_before": START + 30}
    assert code_of(office.decider, spend(office, 6, 1, **later)) == "counter_regressed"
    assert code_of(office.decider, spend(office, 0, 1, **later)) == "counter_regressed"
    office.decider.sign(spend(office, 8, 1, **later))


def test_approvals_may_be_used_in_another_order_than_given(office: Office) -> None:
    first, second = spend(office, 1, 1), spend(office, 2, 0)
    office.decider.sign(second)
    office.decider.sign(first)


def test_a_veto_spends_its_counter_too(office: Office) -> None:
    data = canonical.encode(office.intent())
    bent = office.alice.approve(data, Bend(counter=3), decision="reject")
    office.decider.veto(Veto(intent=data, approvals=(bent,)))
    assert code_of(office.decider, spend(office, 3, 0)) == "counter_regressed"


def test_a_synced_passkey_does_not_count(office: Office) -> None:
    for nonce in range(2):
        intent = office.intent()
        data = canonical.encode(intent)
        asked = office.ask(office.bob.approve(data), *approve(data, "carol"), intent=intent, nonce=nonce)
        assert office.decider.sign(asked)


@pytest.mark.parametrize(
    ("counter", "digest", "not_before", "possible"),
    [
        (5, b"a", 0, True),
        (5, b"b", 0, False),
        (4, b"b", 10, True),
        (4, b"b", 11, False),
        (6, b"b", 11, True),
        (8, b"b", 21, False),
        (10, b"b", 21, True),
        (0, b"b", 10, True),
        (0, b"b", 11, False),
    ],
)
def test_which_counters_one_honest_authenticator_can_have_shown(
    counter: int, digest: bytes, not_before: int, possible: bool
) -> None:
    counters = Counters()
    for at, seen, owner in ((10, 5, b"a"), (15, 3, b"c"), (20, 9, b"d"), (25, 0, b"e")):
        counters.learn(at, owner, Counted(public_key="key", counter=seen))
    asked = Counted(public_key="key", counter=counter)
    assert counters.is_possible(asked, digest=digest, not_before=not_before) is possible
    stranger = Counted(public_key="other", counter=counter)
    assert counters.is_possible(stranger, digest=digest, not_before=not_before)


def test_a_revoked_key_is_unknown(office: Office) -> None:
    policy = parse_policy(policy_bytes(office.desk.policy))
    assert policy.approvers["alice"].key(spell(office.alice.key))
    assert policy.approvers["alice"].key(spell(private_key("ES256", "revoked"))) is None
