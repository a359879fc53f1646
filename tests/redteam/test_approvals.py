"""A: approvals bent, borrowed, replayed or counted twice. The red team has every approval ever given, and no approver's key.

A2 and A21 stand with what they need: one intent asked for many times in test_requests.py, twins of its bytes in test_payload.py.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cli.approve import main as approve_command
from signer.points import P
from signer.protocol import canonical, governance
from signer.protocol.approvals import (
    APPROVAL_TAG,
    GOVERNANCE_TAG,
    Approval,
    Assertion,
    RawSignature,
    approval_message,
)
from signer.protocol.messages import ChangePolicy, KeyView, Sign
from tests.fakes.authenticator import (
    BE,
    BS,
    UP,
    UV,
    Authenticator,
    Bend,
    malleate,
    private_key,
    sign_raw_p256,
    sign_with,
    spell,
)
from tests.fakes.policy_desk import ask_change, next_policy, people
from tests.fakes.signer_people import (
    approve,
    approver_key,
    bind_evm,
    key_entry,
    make_change,
    make_policy,
    make_transfer,
    public_hex,
)
from tests.integration.signer_harness import SignerProcess
from tests.integration.test_signer_approve_command import Api, options
from tests.redteam.conftest import ProcessAttack, changed

ALICE = Authenticator(name="alice")
PHONE = Authenticator(name="alice-phone", algorithm="RS256", device_bound=False)
BOB = Authenticator(name="bob", algorithm="EdDSA", device_bound=False)
ASK_ONE = [{"group": "treasury", "threshold": 1}]
RULES = make_policy()["allow"]


def office() -> list[dict[str, object]]:
    """Alice has two passkeys and a raw key, Bob a synced passkey and a P-256 key, Carol a raw key; Eve is of another group."""
    held = {
        "alice": [ALICE.entry(), PHONE.entry(), key_entry(approver_key("alice"))],
        "bob": [BOB.entry(), {"type": "p256", "public_key": spell(private_key("p256", "bob"))}],
        "carol": [key_entry(approver_key("carol"))],
        "eve": [key_entry(approver_key("eve"))],
    }
    return [
        {"id": name, "keys": keys, "groups": ["support" if name == "eve" else "treasury"]}
        for name, keys in held.items()
    ]


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignerProcess]:
    """Two of the treasury suffice, by whichever of their keys."""
    running = SignerProcess(tmp_path_factory.mktemp("office"))
    running.prepare(make_policy(approvers=office()))
    running.start()
    yield running
    running.stop()


@pytest.fixture
def key(attack: ProcessAttack) -> KeyView:
    return attack.makes_key()


def now() -> int:
    return int(time.time())


def transfer(key: KeyView, **changes: object) -> bytes:
    return canonical.encode(make_transfer(key, now(), **changes))


def ask(data: bytes, *approvals: Approval, nonce: int = 0) -> Sign:
    return Sign(intent=data, approvals=approvals, binding=bind_evm(nonce))


def message_of(data: bytes) -> bytes:
    return approval_message(decision="approve", digest=canonical.digest(data), approver_set_version=1)


def by_hand(data: bytes, *, high: bool = False) -> Approval:
    """Bob's P-256 key, without a passkey around it."""
    mine = private_key("p256", "bob")
    evidence = sign_raw_p256(mine, message_of(data), high=high)
    return Approval(approver="bob", public_key=spell(mine), decision="approve", evidence=evidence)


def raw(name: str, message: bytes) -> Approval:
    """What a person's raw key signed, passed off as an approval."""
    signer = approver_key(name)
    evidence = RawSignature(signature=signer.sign(message))
    return Approval(approver=name, public_key=public_hex(signer), decision="approve", evidence=evidence)


def with_signature(approval: Approval, signature: bytes) -> Approval:
    return replace(approval, evidence=replace(approval.evidence, signature=signature))


# --- reuse --------------------------------------------------------------------------------------------------------------


def test_a1_approvals_of_one_intent_for_another(attack: ProcessAttack, key: KeyView) -> None:
    approved, asked = transfer(key), transfer(key, amount=2 * 10**18)
    attack.refuses("bad_approval_signature", ask(asked, *approve(approved, "alice", "carol")))
    attack.refuses("wrong_challenge", ask(asked, ALICE.approve(approved), BOB.approve(approved)))
    attack.owes(attack.signer.ask(ask(approved, *approve(approved, "alice", "carol"))))


def test_a3_an_approved_intent_after_its_time(attack: ProcessAttack, key: KeyView) -> None:
    data = transfer(key, not_before=now() - 700, expires_at=now() - 1)
    attack.refuses("expired", ask(data, *approve(data, "alice", "carol")))
    attack.refuses(
        "bad_approval_signature",
        ask(changed(data, expires_at=now() + 600), *approve(data, "alice", "carol")),
    )


def test_a4_an_approved_intent_before_its_time(attack: ProcessAttack, key: KeyView) -> None:
    data = transfer(key, not_before=now() + 300)
    attack.refuses("not_yet", ask(data, *approve(data, "alice", "carol")))
    attack.refuses(
        "bad_approval_signature", ask(changed(data, not_before=1), *approve(data, "alice", "carol"))
    )


def test_a5_an_approver_who_was_revoked_before_the_signature(
    attack_on: Callable[..., ProcessAttack],
) -> None:
    attack = attack_on()
    key = attack.makes_key()
    old, new = transfer(key), transfer(key, policy_version=2)
    given = {data: approve(data, "alice", "bob", "carol") for data in (old, new)}
    without = next_policy(approvers=people("alice", "bob"), approver_set_version=2, allow=RULES)
    attack.takes_policy(ask_change(without, "alice", "bob", now=now()))
    attack.refuses("wrong_policy_version", ask(old, *given[old]))
    attack.refuses("bad_approval_signature", ask(new, *given[new]))
    attack.refuses("unknown_approver", ask(new, *approve(new, "alice", "carol", version=2)))
    attack.owes(attack.signer.ask(ask(new, *approve(new, "alice", "bob", version=2))))


def test_a6_a_signature_from_before_an_approver_left_and_came_back(
    attack_on: Callable[..., ProcessAttack],
) -> None:
    attack = attack_on()
    data = transfer(attack.makes_key(), policy_version=3)
    old = approve(data, "alice", "carol")
    without = next_policy(approvers=people("alice", "bob"), approver_set_version=2)
    attack.takes_policy(ask_change(without, "alice", "bob", now=now()))
    back = next_policy(version=3, approver_set_version=3, allow=RULES)
    step = governance.encode(make_change(back, now(), policy_version=2, version=3))
    attack.takes_policy(
        ChangePolicy(intent=step, document=back, approvals=approve(step, "alice", "bob", version=2))
    )
    attack.refuses("bad_approval_signature", ask(data, *old))
    attack.refuses("bad_approval_signature", ask(data, *approve(data, "alice", "carol", version=2)))
    attack.owes(attack.signer.ask(ask(data, *approve(data, "alice", "carol", version=3))))


def test_a14_a_word_about_policy_used_for_money_and_the_other_way_round(
    attack: ProcessAttack, key: KeyView
) -> None:
    data, document = transfer(key), next_policy(approvers=office())
    as_governance = approval_message(
        decision="approve", digest=canonical.digest(data), approver_set_version=1, tag=GOVERNANCE_TAG
    )
    attack.refuses(
        "bad_approval_signature", ask(data, raw("alice", as_governance), raw("carol", as_governance))
    )
    change = ask_change(document, now=now())
    as_money = approval_message(
        decision="approve", digest=governance.digest(change.intent), approver_set_version=1, tag=APPROVAL_TAG
    )
    votes = (raw("alice", as_money), raw("carol", as_money))
    attack.refuses("bad_approval_signature", replace(change, approvals=votes))
    attack.refuses("malformed_intent", ask(change.intent, *approve(change.intent, "alice", "carol")))
    attack.refuses(
        "malformed_intent", replace(change, intent=data, approvals=approve(data, "alice", "carol"))
    )


def test_a15_approvals_of_one_vault_or_organisation_for_another(attack: ProcessAttack, key: KeyView) -> None:
    data = transfer(key)
    votes = approve(data, "alice", "carol")
    for place in ({"vault": "cold"}, {"org": "globex"}):
        other = attack.makes_key(**place)
        attack.refuses("unknown_key", ask(changed(data, **place), *votes))
        attack.refuses_intent("unknown_key", changed(data, **place), bind_evm(0), "alice", "carol")
        attack.refuses("unknown_key", ask(changed(data, key_id=other.key_id, source=other.address), *votes))
        moved = changed(data, key_id=other.key_id, source=other.address, **place)
        attack.refuses("bad_approval_signature", ask(moved, *votes))


# --- counting people ----------------------------------------------------------------------------------------------------


def test_a7_one_person_with_two_devices(attack: ProcessAttack, key: KeyView) -> None:
    data = transfer(key)
    devices = [ALICE.approve(data), PHONE.approve(data, approver="alice"), *approve(data, "alice")]
    for first, second in ((0, 1), (1, 2), (2, 0), (0, 0)):
        attack.refuses("duplicate_approver", ask(data, devices[first], devices[second]))


def test_a8_one_key_under_two_names(attack: ProcessAttack, key: KeyView) -> None:
    data = transfer(key)
    for name, code in (("bob", "unknown_approver_key"), ("mallory", "unknown_approver")):
        attack.refuses(code, ask(data, ALICE.approve(data), ALICE.approve(data, approver=name)))
    for stolen in (ALICE.entry(), key_entry(approver_key("carol"))):
        twice = [*office(), {"id": "mallory", "keys": [stolen], "groups": ["treasury"]}]
        document = next_policy(approvers=twice, approver_set_version=2)
        attack.refuses("bad_policy", ask_change(document, "alice", "carol", now=now()), "stands twice")


def long_form(der: bytes) -> bytes:
    """The same integers in BER that is no DER: the length in two bytes."""
    return der[:1] + b"\x81" + der[1:]


def padded(der: bytes) -> bytes:
    """The same integers, the first with a zero more before it than it needs."""
    return der[:1] + bytes([der[1] + 1]) + b"\x02" + bytes([der[3] + 1]) + b"\x00" + der[4:]


def test_a9_a_signature_written_another_way_as_a_second_approval(attack: ProcessAttack, key: KeyView) -> None:
    data = transfer(key)
    honest = ALICE.approve(data)
    assert isinstance(honest.evidence, Assertion)
    der = honest.evidence.signature
    attack.refuses("duplicate_approver", ask(data, honest, with_signature(honest, malleate(der))))
    attack.refuses("quorum_missing", ask(data, with_signature(honest, malleate(der))))
    for spelling in (long_form(der), padded(der), der + b"\0"):
        attack.refuses(
            "bad_assertion_signature", ask(data, with_signature(honest, spelling), *approve(data, "carol"))
        )
    attack.refuses("bad_approval_signature", ask(data, by_hand(data, high=True), *approve(data, "carol")))
    attack.owes(attack.signer.ask(ask(data, by_hand(data), *approve(data, "carol"))))


def test_a10_the_initiator_counts_himself(attack: ProcessAttack, key: KeyView) -> None:
    data = transfer(key, initiator="alice")
    attack.refuses("initiator_approved", ask(data, *approve(data, "alice", "carol")))
    attack.refuses(
        "initiator_approved", ask(data, PHONE.approve(data, approver="alice"), *approve(data, "carol"))
    )
    other = changed(data, initiator="maker")
    attack.refuses("bad_approval_signature", ask(other, *approve(data, "alice", "carol")))


def test_a11_somebody_of_another_group(attack: ProcessAttack, key: KeyView) -> None:
    data = transfer(key)
    attack.refuses("quorum_missing", ask(data, *approve(data, "carol", "eve")))
    change = ask_change(next_policy(approvers=office()), "carol", "eve", now=now())
    attack.refuses("quorum_missing", change)


def test_a12_a_rejection_that_is_dropped_or_outvoted(attack: ProcessAttack, key: KeyView) -> None:
    data = transfer(key)
    rejected = BOB.approve(data, decision="reject")
    attack.refuses(
        "wrong_challenge", ask(data, *approve(data, "alice"), replace(rejected, decision="approve"))
    )
    attack.refuses("vetoed", ask(data, *approve(data, "alice", "carol"), rejected))
    attack.refuses("vetoed", ask(data, *approve(data, "alice", "carol")))
    attack.refuses("vetoed", ask(data, *approve(data, "alice", "carol"), BOB.approve(data)))


def test_a13_a_threshold_that_sinks_while_an_intent_waits(attack_on: Callable[..., ProcessAttack]) -> None:
    """What one person approved while two were asked is not carried out once one suffices."""
    attack = attack_on()
    key = attack.makes_key()
    waiting = transfer(key)
    attack.refuses("quorum_missing", ask(waiting, *approve(waiting, "alice")))
    lower = [{**rule, "approvals": ASK_ONE if rule["approvals"] else []} for rule in RULES]
    attack.takes_policy(ask_change(next_policy(allow=lower), "alice", "bob", now=now()))
    attack.refuses("wrong_policy_version", ask(waiting, *approve(waiting, "alice")))
    renamed = changed(waiting, policy_version=2)
    attack.refuses("bad_approval_signature", ask(renamed, *approve(waiting, "alice")))
    attack.owes(attack.signer.ask(ask(renamed, *approve(renamed, "alice"))))


# --- passkeys -----------------------------------------------------------------------------------------------------------

BENT = {
    "another page": (Bend(origin="https://evil.example"), "wrong_origin"),
    "a page without encryption": (Bend(origin="http://approve.custody.example"), "wrong_origin"),
    "inside a foreign page": (Bend(client={"crossOrigin": True}), "cross_origin"),
    "under a foreign page": (Bend(client={"topOrigin": "https://evil.example"}), "cross_origin"),
    "another site": (Bend(rp_id="evil.example"), "wrong_rp_id"),
    "a registration": (Bend(type="webauthn.create"), "wrong_ceremony"),
    "a payment": (Bend(type="payment.get"), "wrong_ceremony"),
    "nobody verified": (Bend(flags=UP), "user_not_verified"),
    "nobody present": (Bend(flags=UV), "user_not_present"),
}


@pytest.mark.parametrize("name", BENT)
def test_a16_an_assertion_that_was_got_by_a_trick(attack: ProcessAttack, key: KeyView, name: str) -> None:
    bend, code = BENT[name]
    data = transfer(key)
    attack.refuses(code, ask(data, ALICE.approve(data, bend), BOB.approve(data), *approve(data, "carol")))


def test_a17_the_credential_of_another_device(attack: ProcessAttack, key: KeyView) -> None:
    data = transfer(key)
    bent = ALICE.approve(data, Bend(credential_id=PHONE.credential_id))
    attack.refuses("wrong_credential", ask(data, bent, BOB.approve(data)))
    swapped = replace(ALICE.approve(data), public_key=spell(PHONE.key))
    attack.refuses("wrong_credential", ask(data, swapped, BOB.approve(data)))


def test_a18_one_algorithm_for_another(attack: ProcessAttack, key: KeyView) -> None:
    data = transfer(key)
    honest = ALICE.approve(data)
    assert isinstance(honest.evidence, Assertion)
    signed = honest.evidence.authenticator_data + hashlib.sha256(honest.evidence.client_data_json).digest()
    for algorithm in ("ES256", "EdDSA", "RS256"):
        forged = with_signature(honest, sign_with(private_key(algorithm, "mallory"), signed))
        attack.refuses("bad_assertion_signature", ask(data, forged, *approve(data, "carol")))
    bare = replace(honest, evidence=RawSignature(signature=sign_with(ALICE.key, message_of(data))))
    attack.refuses("wrong_evidence", ask(data, bare, *approve(data, "carol")))
    (carol,) = approve(data, "carol")
    attack.refuses("wrong_evidence", ask(data, honest, replace(carol, evidence=honest.evidence)))


def _spelled(number: int) -> str:
    return number.to_bytes(32, "little").hex()


_POINT = spell(private_key("p256", "weak"))
WEAK = {
    "small order: the identity": ("ed25519", _spelled(1)),
    "small order: of order two": ("ed25519", _spelled(P - 1)),
    "small order: of order four": ("ed25519", _spelled(0)),
    "the identity in a second spelling": ("ed25519", _spelled(P + 1)),
    "the identity with a sign": ("ed25519", _spelled(1 | 1 << 255)),
    "off the curve": ("p256", _POINT[:-2] + f"{int(_POINT[-2:], 16) ^ 1:02x}"),
    "compressed": ("p256", "02" + _POINT[2:66]),
    "at infinity": ("p256", "00"),
    "in capitals": ("p256", _POINT.upper()),
}


@pytest.mark.parametrize("name", WEAK)
def test_a18_a_key_under_which_anything_verifies(attack: ProcessAttack, name: str) -> None:
    kind, public_key = WEAK[name]
    weak = {"id": "mallory", "keys": [{"type": kind, "public_key": public_key}], "groups": ["treasury"]}
    document = next_policy(approvers=[*office(), weak], approver_set_version=2)
    attack.refuses("bad_policy", ask_change(document, "alice", "carol", now=now()), "must be")


@pytest.mark.parametrize("modulus", ["03", "ff" * 128, "ff" * 255 + "fe", "00" + "ff" * 256])
def test_a18_an_rsa_key_that_is_weak_or_written_twice(attack: ProcessAttack, modulus: str) -> None:
    weak = Authenticator(name="mallory", algorithm="RS256").entry(public_key=modulus)
    listed = [*office(), {"id": "mallory", "keys": [weak], "groups": ["treasury"]}]
    document = next_policy(approvers=listed, approver_set_version=2)
    attack.refuses("bad_policy", ask_change(document, "alice", "carol", now=now()), "RSA moduli")
    exponent = {**weak, "public_key": spell(PHONE.key), "exponent": 1}
    listed[-1] = {"id": "mallory", "keys": [exponent], "groups": ["treasury"]}
    document = next_policy(approvers=listed, approver_set_version=2)
    attack.refuses("bad_policy", ask_change(document, "alice", "carol", now=now()), "exactly the fields")


def test_a19_a_copied_authenticator(attack: ProcessAttack, key: KeyView) -> None:
    first = transfer(key)
    used = ALICE.approve(first, Bend(counter=100_000))
    attack.owes(attack.signer.ask(ask(first, used, *approve(first, "carol"), nonce=1)))
    counted_at = now()
    ALICE.counter = 100_000
    second = transfer(key)
    copied = ALICE.approve(second, Bend(counter=100_000))
    attack.refuses("counter_regressed", ask(second, copied, *approve(second, "carol"), nonce=2))
    while now() <= counted_at + 1:
        time.sleep(0.1)
    later = transfer(key, not_before=now())
    for counter in (7, 0):
        lower = ALICE.approve(later, Bend(counter=counter))
        attack.refuses("counter_regressed", ask(later, lower, *approve(later, "carol"), nonce=2))
    ALICE.counter = 100_000
    attack.owes(attack.signer.ask(ask(later, ALICE.approve(later), *approve(later, "carol"), nonce=2)))


def test_a19_a_synced_passkey_where_one_bound_to_its_device_is_wanted(
    attack: ProcessAttack, key: KeyView
) -> None:
    data = transfer(key)
    for flags in (UP | UV | BE | BS, UP | UV | BE, UP | UV | BS):
        attack.refuses(
            "backup_mismatch", ask(data, ALICE.approve(data, Bend(flags=flags)), BOB.approve(data))
        )
    attack.refuses("backup_mismatch", ask(data, ALICE.approve(data), BOB.approve(data, Bend(flags=UP | UV))))


# --- what people see ----------------------------------------------------------------------------------------------------


def test_a20_another_digest_than_that_of_what_is_shown(
    attack: ProcessAttack, key: KeyView, tmp_path: Path
) -> None:
    """The command that people approve with signs nothing; the page's twin is `test_a_lying_api_is_not_shown`."""
    shown, wanted = transfer(key), transfer(key, amount=10**20)
    key_file = tmp_path / "alice.pem"
    pem = approver_key("alice").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key_file.write_bytes(pem)
    key_file.chmod(0o600)
    (tmp_path / "token").write_text("sk_test\n")
    api = Api()
    api.body |= {"intent": base64.b64encode(shown).decode(), "digest": canonical.digest(wanted).hex()}
    thread = threading.Thread(target=api.serve_forever)
    thread.start()
    try:
        assert approve_command([*options(api, key_file), "--yes", "wdr_1"]) == 1
        assert api.decisions == []
        attack.notes("nothing was signed")
        api.body |= {"digest": canonical.digest(shown).hex(), "approver_set_version": 1}
        assert approve_command([*options(api, key_file), "--yes", "wdr_1"]) == 0
    finally:
        api.shutdown()
        thread.join()
        api.server_close()
    (sent,) = api.decisions
    evidence = RawSignature(signature=bytes.fromhex(sent["signature"]))
    given = Approval(approver="alice", public_key=sent["public_key"], decision="approve", evidence=evidence)
    attack.refuses("bad_approval_signature", ask(wanted, given, *approve(wanted, "carol")))
    attack.owes(attack.signer.ask(ask(shown, given, *approve(shown, "carol"))))


def test_a22_another_intent_smuggled_into_a_batch(attack: ProcessAttack, key: KeyView) -> None:
    shown, hidden = transfer(key), transfer(key, amount=10**20)
    both = canonical.digest(shown) + canonical.digest(hidden)
    batch = hashlib.sha256(APPROVAL_TAG + b"approve\0" + both + (1).to_bytes(8, "big")).digest()
    for data in (shown, hidden):
        attack.refuses("bad_approval_signature", ask(data, raw("alice", batch), raw("carol", batch)))
        two = Bend(challenge=lambda one: one + message_of(hidden))
        attack.refuses("wrong_challenge", ask(data, ALICE.approve(data, two), BOB.approve(data)))
    for whole in (b"[" + shown + b"," + hidden + b"]", shown + hidden, shown + b"\n" + hidden):
        attack.refuses_intent("malformed_intent", whole, bind_evm(3), "alice", "carol")
