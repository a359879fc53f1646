"""Every bent assertion by its refusal code, in the signer and on the platform's side: one table, two implementations."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from hypothesis import given
from hypothesis import strategies as st

from custody.policy import model
from custody.signing.errors import InvalidDecision
from custody.signing.evidence import build_approval, read_key, verify_signature
from signer.evidence import verify_evidence
from signer.policy.approver_keys import parse_key
from signer.protocol import webauthn
from signer.protocol.approvals import Approval, Assertion, Evidence, RawSignature
from signer.protocol.approver_keys import ApproverKey, Ed25519Key, P256Key, Passkey
from signer.protocol.webauthn import AssertionRefused, check_assertion
from signer.refusal import Refusal
from tests.fakes.authenticator import (
    AT,
    BE,
    BS,
    ED,
    ORIGIN,
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

MESSAGE = bytes(range(32))
CHALLENGE = base64.urlsafe_b64encode(MESSAGE).rstrip(b"=")
ALGORITHMS = ("ES256", "EdDSA", "RS256")


def signer_says(key: ApproverKey, evidence: Evidence, message: bytes) -> str:
    try:
        verify_evidence(key, evidence, message)
    except Refusal as refusal:
        return refusal.code
    return "ok"


def platform_says(key: ApproverKey, evidence: Evidence, message: bytes) -> str:
    approval = Approval(approver="alice", public_key=key.public_key, decision="approve", evidence=evidence)
    decision = model.Decision(
        approver="alice",
        public_key=key.public_key,
        word=model.Word.APPROVE,
        signature=evidence.signature.hex(),
        assertion=None
        if isinstance(evidence, RawSignature)
        else model.Assertion(
            credential_id=evidence.credential_id,
            authenticator_data=evidence.authenticator_data,
            client_data_json=evidence.client_data_json,
        ),
    )
    assert build_approval(decision) == approval
    try:
        verify_signature(read_key(key), decision, message)
    except InvalidDecision as error:
        return str(error.values["reason"])
    return "ok"


both = pytest.mark.parametrize("say", [signer_says, platform_says])
Say = Callable[[ApproverKey, Evidence, bytes], str]


def registered(device: Authenticator) -> Passkey:
    key = parse_key(device.entry(), "a key")
    assert isinstance(key, Passkey)
    return key


@both
@pytest.mark.parametrize("device_bound", [True, False])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_honest_assertion_verifies(algorithm: str, device_bound: bool, say: Say) -> None:
    device = Authenticator(name="alice", algorithm=algorithm, device_bound=device_bound)
    assert say(registered(device), device.sign(MESSAGE), MESSAGE) == "ok"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One bent assertion."""

    code: str
    bend: Bend
    device_bound: bool = True


def swapped(first: bytes, second: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data.replace(first, second)


CASES = {
    "another challenge": Case(code="wrong_challenge", bend=Bend(challenge=lambda _: bytes(32))),
    "a challenge with an extra hash": Case(
        code="wrong_challenge", bend=Bend(challenge=lambda one: one + one)
    ),
    "padded challenge": Case(
        code="wrong_challenge", bend=Bend(client_bytes=swapped(CHALLENGE, CHALLENGE + b"="))
    ),
    "registration": Case(code="wrong_ceremony", bend=Bend(type="webauthn.create")),
    "payment": Case(code="wrong_ceremony", bend=Bend(type="payment.get")),
    "another origin": Case(code="wrong_origin", bend=Bend(origin="https://evil.example")),
    "origin in other letters": Case(code="wrong_origin", bend=Bend(origin=ORIGIN.upper())),
    "origin with a slash": Case(code="wrong_origin", bend=Bend(origin=f"{ORIGIN}/")),
    "origin without encryption": Case(code="wrong_origin", bend=Bend(origin=ORIGIN.replace("https", "http"))),
    "origin in a list": Case(code="wrong_origin", bend=Bend(client={"origin": [ORIGIN]})),
    "inside a foreign page": Case(code="cross_origin", bend=Bend(client={"crossOrigin": True})),
    "crossOrigin as text": Case(code="cross_origin", bend=Bend(client={"crossOrigin": "false"})),
    "crossOrigin as a number": Case(code="cross_origin", bend=Bend(client={"crossOrigin": 0})),
    "crossOrigin null": Case(code="cross_origin", bend=Bend(client={"crossOrigin": None})),
    "a top origin": Case(code="cross_origin", bend=Bend(client={"topOrigin": ORIGIN})),
    "no JSON": Case(code="bad_client_data", bend=Bend(client_bytes=lambda data: data + b"x")),
    "a list": Case(code="bad_client_data", bend=Bend(client_bytes=lambda data: b"[" + data + b"]")),
    "a name twice": Case(
        code="bad_client_data",
        bend=Bend(client_bytes=swapped(b'{"type"', b'{"type":"webauthn.create","type"')),
    ),
    "not UTF-8": Case(code="bad_client_data", bend=Bend(client_bytes=lambda data: data + b"\xff")),
    "NaN": Case(code="bad_client_data", bend=Bend(client={"x": float("nan")})),
    "deep nesting": Case(code="bad_client_data", bend=Bend(client_bytes=lambda _: b"[" * 2000)),
    "long client data": Case(code="bad_client_data", bend=Bend(client={"x": "x" * 2048})),
    "no client data": Case(code="bad_client_data", bend=Bend(client_bytes=lambda _: b"")),
    "another site": Case(code="wrong_rp_id", bend=Bend(rp_id="evil.example")),
    "the parent site": Case(code="wrong_rp_id", bend=Bend(rp_id="example")),
    "nobody present": Case(code="user_not_present", bend=Bend(flags=UV)),
    "nobody verified": Case(code="user_not_verified", bend=Bend(flags=UP)),
    "attested data": Case(code="bad_authenticator_data", bend=Bend(flags=UP | UV | AT)),
    "extensions announced": Case(code="bad_authenticator_data", bend=Bend(flags=UP | UV | ED)),
    "extensions": Case(code="bad_authenticator_data", bend=Bend(flags=UP | UV | ED, tail=b"\xa0")),
    "a reserved flag": Case(code="bad_authenticator_data", bend=Bend(flags=UP | UV | 0x02)),
    "bytes behind": Case(code="bad_authenticator_data", bend=Bend(tail=b"\x00")),
    "synced where bound is demanded": Case(code="backup_mismatch", bend=Bend(flags=UP | UV | BE | BS)),
    "syncable where bound is demanded": Case(code="backup_mismatch", bend=Bend(flags=UP | UV | BE)),
    "bound where synced was registered": Case(
        code="backup_mismatch", bend=Bend(flags=UP | UV), device_bound=False
    ),
    "backed up and not eligible": Case(code="backup_mismatch", bend=Bend(flags=UP | UV | BS)),
    "another credential": Case(code="wrong_credential", bend=Bend(credential_id="AAAA")),
    "no signature": Case(code="bad_assertion_signature", bend=Bend(signature=lambda _: b"")),
    "a long signature": Case(
        code="bad_assertion_signature", bend=Bend(signature=lambda one: one + bytes(600))
    ),
    "a tail on the signature": Case(
        code="bad_assertion_signature", bend=Bend(signature=lambda one: one + b"\x00")
    ),
    "a cut signature": Case(code="bad_assertion_signature", bend=Bend(signature=lambda one: one[:-1])),
}


@both
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("name", CASES)
def test_a_bent_assertion_is_refused_with_its_code(name: str, algorithm: str, say: Say) -> None:
    case = CASES[name]
    device = Authenticator(name="alice", algorithm=algorithm, device_bound=case.device_bound)
    assert say(registered(device), device.sign(MESSAGE, case.bend), MESSAGE) == case.code


@both
@pytest.mark.parametrize(
    "bend",
    [
        Bend(client={"other_keys_can_be_added_here": "do not compare clientDataJSON against a template"}),
        Bend(client_bytes=swapped(b',"crossOrigin":false', b"")),
        Bend(client_bytes=swapped(b'":', b'" : ')),
    ],
)
def test_what_browsers_may_write_is_accepted(bend: Bend, say: Say) -> None:
    device = Authenticator(name="alice")
    assert say(registered(device), device.sign(MESSAGE, bend), MESSAGE) == "ok"


@both
def test_a_synced_passkey_may_be_backed_up_or_not_yet(say: Say) -> None:
    device = Authenticator(name="alice", device_bound=False)
    for flags in (UP | UV | BE, UP | UV | BE | BS):
        assert say(registered(device), device.sign(MESSAGE, Bend(flags=flags)), MESSAGE) == "ok"


@both
def test_either_s_of_a_passkey_is_one_and_the_same_yes(say: Say) -> None:
    device = Authenticator(name="alice")
    honest = device.sign(MESSAGE)
    twin = replace(honest, signature=malleate(honest.signature))
    assert [say(registered(device), one, MESSAGE) for one in (honest, twin)] == ["ok", "ok"]


@both
@pytest.mark.parametrize("signed", ["authenticator_data", "client_data_json", "signature"])
def test_what_was_changed_after_signing_is_refused(signed: str, say: Say) -> None:
    """The change is one that every check but the signature's lets pass."""
    device = Authenticator(name="alice")
    honest = device.sign(MESSAGE)
    changed = {
        "authenticator_data": honest.authenticator_data[:-1] + b"\x63",
        "client_data_json": honest.client_data_json + b" ",
        "signature": device.sign(bytes(32)).signature,
    }[signed]
    forged = replace(honest, **{signed: changed})
    assert say(registered(device), forged, MESSAGE) == "bad_assertion_signature"


@both
@pytest.mark.parametrize("used", ALGORITHMS)
@pytest.mark.parametrize("expected", ALGORITHMS)
def test_no_algorithm_passes_for_another(expected: str, used: str, say: Say) -> None:
    device = Authenticator(name="alice", algorithm=expected)
    forger = private_key(used, "mallory")
    honest = device.sign(MESSAGE)
    signed = honest.authenticator_data + hashlib.sha256(honest.client_data_json).digest()
    forged = replace(honest, signature=sign_with(forger, signed))
    assert say(registered(device), forged, MESSAGE) == "bad_assertion_signature"


@both
def test_rs256_is_pkcs1_with_sha256_and_nothing_else(say: Say) -> None:
    device = Authenticator(name="alice", algorithm="RS256")
    key = device.key
    assert isinstance(key, rsa.RSAPrivateKey)
    honest = device.sign(MESSAGE)
    signed = honest.authenticator_data + hashlib.sha256(honest.client_data_json).digest()
    pss = padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=32)
    for signature in (key.sign(signed, pss, SHA256()), key.sign(signed, padding.PKCS1v15(), SHA384())):
        forged = replace(honest, signature=signature)
        assert say(registered(device), forged, MESSAGE) == "bad_assertion_signature"


@both
def test_a_raw_p256_signature_has_one_spelling(say: Say) -> None:
    key = private_key("p256", "alice")
    mine = P256Key(public_key=spell(key))
    low, high = sign_raw_p256(key, MESSAGE), sign_raw_p256(key, MESSAGE, high=True)
    assert say(mine, low, MESSAGE) == "ok"
    spoilt = [
        high.signature,
        sign_with(key, MESSAGE),
        low.signature + b"\0",
        low.signature[:-1],
        b"",
        bytes(64),
        b"\xff" * 64,
    ]
    spoilt += [low.signature[:32] + bytes(32), bytes(32) + low.signature[32:]]
    assert {say(mine, RawSignature(signature=one), MESSAGE) for one in spoilt} == {"bad_approval_signature"}
    assert say(mine, low, bytes(32)) == "bad_approval_signature"


@both
def test_an_ed25519_signature_has_one_spelling(say: Say) -> None:
    key = private_key("ed25519", "alice")
    mine = Ed25519Key(public_key=spell(key))
    honest = sign_with(key, MESSAGE)
    order = 2**252 + 27742317777372353535851937790883648493
    twin = honest[:32] + (int.from_bytes(honest[32:], "little") + order).to_bytes(32, "little")
    assert say(mine, RawSignature(signature=honest), MESSAGE) == "ok"
    for spoilt in (twin, honest + b"\0", honest[:-1], b"", bytes(64)):
        assert say(mine, RawSignature(signature=spoilt), MESSAGE) == "bad_approval_signature"


@both
def test_evidence_of_another_kind_of_key_is_refused(say: Say) -> None:
    device = Authenticator(name="alice", algorithm="EdDSA")
    passkey, raw = registered(device), Ed25519Key(public_key=spell(device.key))
    signature = RawSignature(signature=sign_with(device.key, MESSAGE))
    assert say(passkey, signature, MESSAGE) == "wrong_evidence"
    assert say(raw, device.sign(MESSAGE), MESSAGE) == "wrong_evidence"


@given(
    credential=st.sampled_from([Authenticator(name="fuzz").credential_id, "", "AAAA"]),
    data=st.binary(max_size=80),
    client=st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)),
    signature=st.binary(max_size=600),
)
def test_any_bytes_are_refused_and_break_nothing(
    credential: str, data: bytes, client: bytes, signature: bytes
) -> None:
    key = registered(Authenticator(name="fuzz"))
    assertion = Assertion(
        credential_id=credential, authenticator_data=data, client_data_json=client, signature=signature
    )
    with pytest.raises(AssertionRefused):
        check_assertion(key, assertion, MESSAGE)


@given(signature=st.binary(max_size=600), algorithm=st.sampled_from(ALGORITHMS))
def test_any_signature_bytes_are_refused_and_break_nothing(signature: bytes, algorithm: str) -> None:
    device = Authenticator(name="fuzz", algorithm=algorithm)
    bent = device.sign(MESSAGE, Bend(signature=lambda _: signature))
    assert signer_says(registered(device), bent, MESSAGE) == "bad_assertion_signature"
    assert platform_says(registered(device), bent, MESSAGE) == "bad_assertion_signature"


@given(integers=st.tuples(st.integers(-(2**260), 2**260), st.integers(-(2**260), 2**260)))
def test_any_integers_in_der_are_refused_and_break_nothing(integers: tuple[int, int]) -> None:
    def integer(value: int) -> bytes:
        raw = value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)
        return bytes([2, len(raw)]) + raw

    body = integer(integers[0]) + integer(integers[1])
    device = Authenticator(name="fuzz")
    bent = device.sign(MESSAGE, Bend(signature=lambda _: bytes([0x30, len(body)]) + body))
    assert signer_says(registered(device), bent, MESSAGE) == "bad_assertion_signature"
    assert platform_says(registered(device), bent, MESSAGE) == "bad_assertion_signature"


def test_the_spec_names_every_refusal() -> None:
    text = Path(webauthn.__file__).with_name("SPEC.md").read_text()
    codes = {case.code for case in CASES.values()} | {"wrong_evidence", "counter_regressed"}
    assert {code for code in codes if text.count(f"`{code}`") < 2} == set()
