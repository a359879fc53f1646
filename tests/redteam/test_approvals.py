"""A: approvals bent, borrowed, replayed or counted twice. The red team has every approval ever given, and no approver's key.

A2 stands in test_requests.py, A21 in test_payload.py, and A5, A6 and A13, where the approvers themselves change, in
test_approvers.py.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Iterator
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
from signer.protocol.messages import KeyView
from tests.fakes.authenticator import (
    BE,
    BS,
    UP,
    UV,
    Authenticator,
    Bend,
    malleate,
    private_key,
    sign_with,
    spell,
)
from tests.fakes.policy_desk import ask_change, next_policy
from tests.fakes.signer_people import (
    approve,
    approver_key,
    bind_evm,
    key_entry,
    make_policy,
)
from tests.integration.signer_harness import SignerProcess
from tests.integration.test_signer_approve_command import Api, options
from tests.redteam.conftest import ProcessAttack, changed
from tests.redteam.office import (
    ALICE,
    BOB,
    PHONE,
    ask,
    by_hand,
    message_of,
    now,
    office,
    raw,
    transfer,
    with_signature,
)


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
