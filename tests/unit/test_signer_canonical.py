"""The canonical intent: one byte string per intent, and a typed refusal for every other byte string."""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signer.protocol import canonical
from signer.protocol.approvals import approval_message
from signer.protocol.canonical import MalformedIntent
from signer.protocol.intent import EvmTransfer, StellarPayment

VECTORS = sorted((Path(__file__).parent.parent / "golden" / "intents").glob("*.json"))
SPEC = Path(canonical.__file__).with_name("SPEC.md")


def load(name: str) -> bytes:
    path = next(vector for vector in VECTORS if vector.stem == name)
    return json.loads(path.read_text())["canonical"].encode()


def payment() -> StellarPayment:
    intent = canonical.decode(load("stellar_payment_native"))
    assert isinstance(intent, StellarPayment)
    return intent


def evm() -> EvmTransfer:
    intent = canonical.decode(load("evm_transfer"))
    assert isinstance(intent, EvmTransfer)
    return intent


def refusal(data: bytes) -> tuple[str, str]:
    with pytest.raises(MalformedIntent) as caught:
        canonical.decode(data)
    return caught.value.code, caught.value.field


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_golden_vectors_hold(path: Path) -> None:
    vector = json.loads(path.read_text())
    data = vector["canonical"].encode()
    intent = canonical.decode(data)
    digest = canonical.digest(data)
    assert canonical.kind_of(intent) == vector["kind"]
    assert {name: str(value) for name, value in asdict(intent).items()} == vector["fields"]
    assert canonical.encode(intent) == data
    assert digest.hex() == vector["digest"]
    for decision in ("approve", "reject"):
        message = approval_message(decision=decision, digest=digest, approver_set_version=1)
        assert message.hex() == vector[f"{decision}_v1"]


def test_spec_shows_a_vector_that_holds() -> None:
    vector = json.loads(next(v for v in VECTORS if v.stem == "stellar_payment_memo_text").read_text())
    text = SPEC.read_text()
    for value in ("canonical", "digest", "approve_v1", "reject_v1"):
        assert vector[value] in text


def test_digest_and_approval_are_domain_separated() -> None:
    data = load("evm_transfer")
    digest = canonical.digest(data)
    assert digest == hashlib.sha256(b"custody-intent-v1\x00" + data).digest()
    messages = {
        approval_message(decision=decision, digest=digest, approver_set_version=version)
        for decision in ("approve", "reject")
        for version in (1, 2)
    }
    assert len(messages) == 4
    assert digest not in messages


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b'"amount":"15000000"', b'"amount":"015000000"', "not_minimal"),
        (b'"amount":"15000000"', b'"amount":"+15000000"', "not_minimal"),
        (b'"amount":"15000000"', b'"amount":"1.5e7"', "not_minimal"),
        (b'"amount":"15000000"', b'"amount":"-1"', "not_minimal"),
        (b'"amount":"15000000"', b'"amount":""', "not_minimal"),
        (b'"amount":"15000000"', b'"amount":"0"', "out_of_range"),
        (b'"amount":"15000000"', b'"amount":"9223372036854775808"', "out_of_range"),
        (b'"amount":"15000000"', b'"amount":15000000', "not_canonical"),
        (b'"amount":"15000000"', b'"amount":1.5', "not_canonical"),
        (b'"amount":"15000000"', b'"amount":null', "not_canonical"),
        (b'"amount":"15000000",', b"", "missing_field"),
        (b'"amount":"15000000"', b'"amount":"15000000","amount":"15000000"', "duplicate_field"),
        (b'"amount":"15000000"', b'"amount":"15000000","another":"1"', "unknown_field"),
        (b'"amount":"15000000"', b'"amount": "15000000"', "not_canonical"),
        (b'"amount":"15000000"', b'"amount":"\\u0031"', "not_canonical"),
        (b'"vault":"treasury"', b'"vault":"trea\\/sury"', "not_canonical"),
        (b'"vault":"treasury"', b'"vault":"trea\tsury"', "not_canonical"),
        (b'"vault":"treasury"', b'"vault":"tr\xc3\xa9asury"', "not_canonical"),
        (b'"vault":"treasury"', b'"vault":"trea sury"', "bad_name"),
        (b'"v":"1"', b'"v":"2"', "unknown_version"),
        (b'"kind":"stellar_payment"', b'"kind":"stellar_merge"', "unknown_kind"),
        (b'"kind":"stellar_payment"', b'"kind":"stellar_change_trust"', "unknown_field"),
        (b'"expires_at":"1790003600"', b'"expires_at":"1790000000"', "empty_window"),
        (b'"request_id":"6f1c1f6e', b'"request_id":"6F1C1F6E', "bad_uuid"),
        (b'"key_id":"00112233', b'"key_id":"0011223', "bad_key_id"),
        (b'"chain":"stellar:devnet"', b'"chain":"eip155:1"', "bad_chain"),
        (b"GCATS5YOVB6ROX2WUNKGNQ2MP3GMXDMKSG2O4N5CLX3A6W4PZGZZI55U",
         b"GCATS5YOVB6ROX2WUNKGNQ2MP3GMXDMKSG2O4N5CLX3A6W4PZGZZI55V", "bad_address"),
        (b"GCATS5YOVB6ROX2WUNKGNQ2MP3GMXDMKSG2O4N5CLX3A6W4PZGZZI55U",
         b"gcats5yovb6rox2wunkgnq2mp3gmxdmksg2o4n5clx3a6w4pzgzzi55u", "bad_address"),
        (b"GCATS5YOVB6ROX2WUNKGNQ2MP3GMXDMKSG2O4N5CLX3A6W4PZGZZI55U",
         b"GCFIRY65OQE7DFP5KLNS2PF2LVZMUZYJX4OZIEQ36N2IQANUB5XVYOJR", "self_transfer"),
        (b'"asset":"native"', b'"asset":"Native"', "bad_asset"),
        (b'"asset":"native"', b'"asset":"USDC:"', "bad_address"),
        (b'"memo_type":"none"', b'"memo_type":"text"', "bad_memo"),
        (b'"memo":"","memo_type":"none"', b'"memo":"18446744073709551616","memo_type":"id"', "bad_memo"),
        (b'"memo":"","memo_type":"none"', b'"memo":"01","memo_type":"id"', "bad_memo"),
    ],
)  # fmt: skip
def test_every_other_encoding_is_refused(old: bytes, new: bytes, code: str) -> None:
    data = load("stellar_payment_native")
    assert data.count(old) == 1
    assert refusal(data.replace(old, new))[0] == code


def test_unsorted_names_are_refused() -> None:
    values = json.loads(load("stellar_payment_native"))
    reversed_names = dict(sorted(values.items(), reverse=True))
    assert refusal(json.dumps(reversed_names, separators=(",", ":")).encode())[0] == "not_canonical"


def test_memo_with_a_muxed_destination_is_refused() -> None:
    data = load("stellar_payment_muxed_credit").replace(
        b'"memo":"","memo_type":"none"', b'"memo":"1","memo_type":"id"'
    )
    assert refusal(data) == ("memo_with_muxed", "memo_type")


def test_boundaries_of_money_hold() -> None:
    assert canonical.encode(replace(payment(), amount=1))
    assert canonical.encode(replace(payment(), amount=2**63 - 1))
    assert canonical.encode(replace(evm(), amount=2**256 - 1))
    for intent in (
        replace(payment(), amount=2**63),
        replace(payment(), amount=0),
        replace(payment(), amount=-1),
        replace(evm(), amount=2**256),
        replace(payment(), max_fee=99),
        replace(evm(), gas_limit=20_999),
        replace(evm(), max_priority_fee_per_gas=evm().max_fee_per_gas + 1),
        replace(evm(), chain_id=1),
        replace(evm(), destination=evm().source.lower()),
        replace(evm(), destination="0x" + "00" * 20),
        replace(payment(), memo_type="text", memo="é"),
    ):
        with pytest.raises(MalformedIntent):
            canonical.encode(intent)


@pytest.mark.parametrize("value", [True, 1.0, None, b"1"])
def test_values_of_another_type_are_refused(value: object) -> None:
    with pytest.raises(MalformedIntent) as caught:
        canonical.encode(replace(payment(), amount=value))  # type: ignore[arg-type]  # the wrong type is the point
    assert caught.value.code == "wrong_type"


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"', b'{""}', b'{"a":"b"', b"{" * 4000, b'{"a":"' + b"x" * 5000 + b'"}']
)
def test_other_bytes_are_refused(data: bytes) -> None:
    refusal(data)


@settings(max_examples=300)
@given(st.data())
def test_a_changed_byte_is_refused_or_is_another_intent(data: st.DataObject) -> None:
    original = load(data.draw(st.sampled_from([vector.stem for vector in VECTORS])))
    position = data.draw(st.integers(0, len(original) - 1))
    changed = bytearray(original)
    changed[position] = data.draw(st.integers(0, 255))
    try:
        intent = canonical.decode(bytes(changed))
    except MalformedIntent:
        return
    assert canonical.encode(intent) == bytes(changed)
    assert (bytes(changed) == original) == (intent == canonical.decode(original))


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_random_bytes_only_ever_raise_a_typed_refusal(data: bytes) -> None:
    refusal(data)
