"""Which keys get into a policy: sound ones, each in its one spelling, each once in the whole document."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from signer.points import P256_ORDER, is_p256_public_key
from signer.policy.approver_keys import parse_key
from signer.policy.document import parse_policy
from signer.policy.view import view_policy
from signer.protocol.approver_keys import Ed25519Key, P256Key, Passkey
from signer.refusal import StartupFault
from tests.fakes.authenticator import Authenticator, private_key, spell
from tests.fakes.signer_people import make_policy, policy_bytes

POINT = spell(private_key("p256", "alice"))
X, Y = POINT[2:66], POINT[66:]
P = 2**256 - 2**224 + 2**192 + 2**96 - 1
OFF_CURVE = f"04{X}{(int(Y, 16) ^ 1):064x}"
NOT_REDUCED = f"04{P:064x}{Y}"
ED25519 = spell(private_key("ed25519", "alice"))
PASSKEY = Authenticator(name="alice").entry()
RSA = Authenticator(name="alice", algorithm="RS256").entry()
MODULUS = str(RSA["public_key"])
SMALL_MODULUS = (
    f"{rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key().public_numbers().n:x}"
)


def raw(kind: object, public_key: object) -> dict[str, object]:
    return {"type": kind, "public_key": public_key}


def test_every_kind_is_read() -> None:
    assert parse_key(raw("ed25519", ED25519), "a key") == Ed25519Key(public_key=ED25519)
    assert parse_key(raw("p256", POINT), "a key") == P256Key(public_key=POINT)
    for algorithm in ("ES256", "EdDSA", "RS256"):
        device = Authenticator(name="alice", algorithm=algorithm, device_bound=False)
        key = parse_key(device.entry(), "a key")
        assert isinstance(key, Passkey)
        assert (key.algorithm, key.credential_id) == (algorithm, device.credential_id)
        assert (key.origins, key.device_bound) == (device.origins, False)


def test_the_view_shows_the_keys_as_they_are() -> None:
    people = [{"id": "alice", "keys": [raw("p256", POINT), RSA], "groups": ["treasury"]}]
    policy = parse_policy(
        policy_bytes(
            make_policy(
                approvers=people,
                allow=[],
                governance={"approvals": [{"group": "treasury", "threshold": 1}], "cool_down_s": 0},
            )
        )
    )
    assert view_policy(policy, ()).approvers[0].keys == policy.approvers["alice"].keys


@pytest.mark.parametrize(
    ("value", "said"),
    [
        pytest.param(ED25519, "type", id="a bare key"),
        (raw("secp256k1", POINT), "type"),
        (raw(["p256"], POINT), "type"),
        ({"type": "p256"}, "exactly the fields"),
        ({**raw("p256", POINT), "note": ""}, "exactly the fields"),
        (raw("ed25519", ED25519.upper()), "lower-case hex"),
        (raw("ed25519", f" {ED25519}"), "lower-case hex"),
        (raw("ed25519", None), "lower-case hex"),
        (raw("ed25519", ED25519[:-2]), "Ed25519"),
        (raw("ed25519", "00" * 32), "Ed25519"),
        (raw("ed25519", "01" + "00" * 31), "Ed25519"),
        (raw("ed25519", "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "Ed25519"),
        (raw("ed25519", f"{2**255 - 19 + 3:064x}"), "Ed25519"),
        (raw("ed25519", (2**255 - 19 + 3).to_bytes(32, "little").hex()), "Ed25519"),
        (raw("p256", ED25519), "P-256"),
        (raw("p256", "00"), "P-256"),
        (raw("p256", "04" + "00" * 64), "P-256"),
        (raw("p256", f"02{X}"), "P-256"),
        (raw("p256", f"06{X}{Y}"), "P-256"),
        (raw("p256", OFF_CURVE), "P-256"),
        (raw("p256", NOT_REDUCED), "P-256"),
        (PASSKEY | {"algorithm": "ES384"}, "algorithm"),
        (PASSKEY | {"algorithm": "EdDSA"}, "Ed25519"),
        (PASSKEY | {"algorithm": "RS256"}, "RSA"),
        (PASSKEY | {"public_key": OFF_CURVE}, "P-256"),
        (PASSKEY | {"device_bound": 1}, "device_bound"),
        (PASSKEY | {"device_bound": "true"}, "device_bound"),
        (PASSKEY | {"credential_id": ""}, "credential_id"),
        (PASSKEY | {"credential_id": 5}, "credential_id"),
        (PASSKEY | {"credential_id": "AAA="}, "credential_id"),
        (PASSKEY | {"credential_id": "AB"}, "credential_id"),
        (PASSKEY | {"credential_id": "A"}, "credential_id"),
        (PASSKEY | {"credential_id": "++++"}, "credential_id"),
        (PASSKEY | {"credential_id": "A" * 1368}, "credential_id"),
        (PASSKEY | {"rp_id": "Custody.example"}, "rp_id"),
        (PASSKEY | {"rp_id": "https://custody.example"}, "rp_id"),
        (PASSKEY | {"rp_id": "custody.example."}, "rp_id"),
        (PASSKEY | {"rp_id": ""}, "rp_id"),
        (PASSKEY | {"origins": []}, "must not be empty"),
        (PASSKEY | {"origins": "https://custody.example"}, "must be a list"),
        (PASSKEY | {"origins": ["https://custody.example"] * 2}, "repeat"),
        (PASSKEY | {"origins": [f"https://{n}.custody.example" for n in range(9)]}, "at most 8"),
        (PASSKEY | {"origins": ["https://evilcustody.example"]}, "within the rp_id"),
        (PASSKEY | {"origins": ["https://custody.example.evil"]}, "within the rp_id"),
        (PASSKEY | {"origins": ["https://custody.example/"]}, "origins"),
        (PASSKEY | {"origins": ["https://user@custody.example"]}, "origins"),
        (PASSKEY | {"origins": ["https://*.custody.example"]}, "origins"),
        (PASSKEY | {"origins": ["http://custody.example"]}, "https"),
        (PASSKEY | {"origins": ["https://custody.example:443"]}, "as browsers do"),
        (PASSKEY | {"origins": ["https://custody.example:65536"]}, "as browsers do"),
        (PASSKEY | {"origins": [1]}, "origins"),
        (RSA | {"public_key": SMALL_MODULUS}, "RSA"),
        (RSA | {"public_key": f"00{MODULUS}"}, "RSA"),
        (RSA | {"public_key": f"{int(MODULUS, 16) - 1:x}"}, "RSA"),
        (RSA | {"public_key": "ff" * 513}, "lower-case hex"),
        (RSA | {"exponent": 1}, "exactly the fields"),
    ],
)
def test_what_is_no_sound_key_is_refused(value: object, said: str) -> None:
    with pytest.raises(StartupFault, match=said):
        parse_key(value, "a key")


def test_a_page_on_the_machine_itself_needs_no_encryption() -> None:
    local = PASSKEY | {"rp_id": "localhost", "origins": ["http://localhost:8080"]}
    assert isinstance(parse_key(local, "a key"), Passkey)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (raw("p256", PASSKEY["public_key"]), PASSKEY, "stands twice"),
        (raw("p256", POINT), raw("p256", POINT), "stands twice"),
        (
            raw("ed25519", ED25519),
            Authenticator(name="alice", algorithm="EdDSA").entry(public_key=ED25519),
            "stands twice",
        ),
        (
            PASSKEY,
            Authenticator(name="bob").entry(credential_id=PASSKEY["credential_id"]),
            "one credential id",
        ),
    ],
)
@pytest.mark.parametrize("people", [["alice", "bob"], ["alice", "alice"]])
def test_a_key_stands_once_in_the_document(
    first: dict[str, object], second: dict[str, object], said: str, people: list[str]
) -> None:
    keys: dict[str, list[object]] = {}
    for name, key in zip(people, (first, second), strict=True):
        keys.setdefault(name, []).append(key)
    approvers = [{"id": name, "keys": held, "groups": ["treasury"]} for name, held in keys.items()]
    with pytest.raises(StartupFault, match=said):
        parse_policy(policy_bytes(make_policy(approvers=approvers, allow=[])))


def test_the_points_of_p256_are_those_of_the_library() -> None:
    for name in ("alice", "bob", "carol"):
        point = bytes.fromhex(spell(private_key("p256", name)))
        assert is_p256_public_key(point)
        assert not is_p256_public_key(point[:-1] + bytes([point[-1] ^ 1]))
    assert P256_ORDER.bit_length() == 256


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=80),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=12), children, max_size=4)
    ),
    max_leaves=8,
)


@given(value=_JSON)
def test_any_json_is_refused_and_breaks_nothing(value: object) -> None:
    with pytest.raises(StartupFault):
        parse_key(value, "a key")


@given(name=st.sampled_from(sorted(PASSKEY)), value=_JSON)
def test_any_json_in_a_field_is_refused_or_was_right(name: str, value: Any) -> None:
    changed = PASSKEY | {name: value}
    try:
        key = parse_key(changed, "a key")
    except StartupFault:
        return
    assert isinstance(key, Passkey)
    written = key.origins if name == "origins" else getattr(key, name, "webauthn")
    assert json.loads(json.dumps(written)) == value
