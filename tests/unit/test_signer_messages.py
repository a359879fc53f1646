"""The wire: every message survives the round trip, everything else is a typed refusal."""

import json
import socket
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signer.protocol.approvals import Approval, RawSignature
from signer.protocol.batch import ApproveBatch, BatchApproved
from signer.protocol.key_backup import AdmitKey, ExportKeys, WrappedKeyList, WrappedKeyView
from signer.protocol.key_batches import BATCH_MAX, AttestedKey, AttestKeys, CreateKeys, KeyBatch
from signer.protocol.messages import (
    PAGE_MAX,
    ChangePolicy,
    CountView,
    CreateKey,
    EvmBinding,
    Explained,
    GetPolicy,
    Health,
    KeyList,
    KeyView,
    ListKeys,
    Refused,
    Sign,
    SignCheckpoint,
    Signed,
    SignedCheckpoint,
    StellarBinding,
    Veto,
    dump,
    load_request,
    load_response,
)
from signer.protocol.stops import (
    LIST_MAX,
    ListStops,
    Resume,
    Resumed,
    Stop,
    StopList,
    Stopped,
    StopView,
)
from signer.protocol.voids import Void, Voided
from signer.protocol.wire import FRAME_MAX, ConnectionEnded, MalformedMessage, receive_frame, send_frame

APPROVAL = Approval(
    approver="alice", public_key="ab" * 32, decision="approve", evidence=RawSignature(signature=b"\xcd" * 64)
)
STELLAR = StellarBinding(sequence=2**62, max_time=1, min_ledger=0, max_ledger=0, fee=100)
EVM = EvmBinding(nonce=0, max_fee_per_gas=2, max_priority_fee_per_gas=1)
KEY = KeyView(
    key_id="0" * 32,
    org="o",
    vault="v",
    curve="ed25519",
    label="l",
    public_key="",
    address="G",
    storage="token",
    origin="born",
    state="active",
)

WRAPPED = WrappedKeyView(
    key_id="0" * 32, vault="v", label="l", public_key=bytes(65), blob=bytes(72), wrapping_key=bytes(32)
)
EXPLAINED = Explained(
    verdict="wait",
    code="quorum_missing",
    rule="r",
    nearest="",
    obstacles=("asset",),
    groups=(CountView(group="g", threshold=2, counted=("a",)),),
    cool_down_s=0,
    ready_at=0,
    intent_digest="",
)

STOP = StopView(
    order_digest="ab" * 32,
    scope="asset",
    chain="eip155:1",
    subject="0x",
    reason="r" * 200,
    approver="a" * 64,
    since=1,
)
ATTESTED = AttestedKey(key_id="0" * 32, vault="v" * 64, public_key=bytes(65), attestation=bytes(64))


@pytest.mark.parametrize(
    "request_",
    [
        Health(),
        GetPolicy(),
        CreateKey(request_id="r", org="o", vault="v", curve="ed25519", label="l"),
        CreateKey(request_id="r", org="o", vault="v", curve="secp256k1", label="l", storage="wrapped"),
        AdmitKey(
            request_id="r", key_id="0" * 32, org="o", vault="v", curve="secp256k1", label="l",
            public_key=bytes(65), blob=bytes(72),
        ),
        CreateKeys(request_id="r", org="o", vault="v", label="l", count=256),
        AttestKeys(org="o", key_ids=("0" * 32, "1" * 32)),
        AttestKeys(org="o", key_ids=()),
        ListKeys(org="o", start=50),
        ExportKeys(org="o", start=0),
        Veto(intent=b"x", approvals=(APPROVAL,)),
        Sign(intent=b"x", approvals=(APPROVAL, APPROVAL), binding=STELLAR),
        Sign(intent=b"", approvals=(), binding=EVM),
        ChangePolicy(intent=b"x", document=b"y" * 65_536, approvals=(APPROVAL,)),
        SignCheckpoint(key_id="0" * 32, org="o", sequence=2**63 - 1, hash=bytes(32)),
        Void(intent=b"x"),
        ApproveBatch(batch=b"x", lines=(b"y", b"z"), approvals=(APPROVAL,)),
        Stop(order=b"x", approval=APPROVAL),
        Resume(intent=b"x", approvals=(APPROVAL, APPROVAL)),
        ListStops(org="o"),
    ],
)  # fmt: skip
def test_requests_survive_the_round_trip(request_: Health) -> None:
    assert load_request(dump(request_)) == request_


@pytest.mark.parametrize(
    "response",
    [
        KeyList(keys=(KEY, KEY), total=2),
        WrappedKeyList(keys=(WRAPPED,), passed=50, total=51),
        KeyBatch(org="o", attester=bytes(32), keys=(ATTESTED, ATTESTED)),
        KEY,
        Signed(tx=bytes(range(256)), tx_hash="ab", intent_digest="cd"),
        Refused(code="no_rule", text="é"),
        SignedCheckpoint(key_id="0", sequence=1, hash=bytes(32), public_key="ab", signature=bytes(64)),
        EXPLAINED,
        Voided(intent_digest="ab"),
        BatchApproved(batch_digest="ab"),
        Stopped(order_digest="ab"),
        Resumed(order_digest="ab"),
        StopList(stops=(STOP,) * LIST_MAX, total=101),
    ],
)  # fmt: skip
def test_responses_survive_the_round_trip(response: Refused) -> None:
    assert load_response(dump(response)) == response


def changed(**changes: object) -> bytes:
    value = json.loads(dump(Sign(intent=b"x", approvals=(APPROVAL,), binding=STELLAR)))
    return json.dumps({**value, **changes}).encode()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "not_json"),
        (b"\xff", "not_json"),
        (b"[]", "not_an_object"),
        (b"{}", "unknown_version"),
        (b"[" * 60_000, "too_deep"),
        (b'{"a":' * 9 + b"1" + b"}" * 9, "too_deep"),
        (b'{"v":"1","type":"Health","x":"[[[[[[[[[[[[[["}', "unknown_field"),
        (b'{"v":"1","v":"1","type":"Health"}', "duplicate_field"),
        (b'{"v":1,"type":"Health"}', "bare_number"),
        (b'{"v":"1","type":"Health","x":NaN}', "bare_number"),
        (b'{"v":"1","type":"KeyView"}', "unknown_type"),
        (b'{"v":"1","type":["Health"]}', "unknown_type"),
        (b'{"v":"1","type":"Health","extra":""}', "unknown_field"),
        (b'{"v":"1","type":"PublicKey"}', "missing_field"),
        (changed(intent="eA"), "bad_base64"),
        (changed(intent="eB=="), "bad_base64"),
        (changed(intent=None), "wrong_type"),
        (changed(approvals={}), "wrong_type"),
        (changed(approvals=["x"]), "wrong_type"),
        (changed(binding={"type": "OtherBinding"}), "unknown_type"),
        (changed(binding={"type": "EvmBinding", "nonce": "1"}), "missing_field"),
        (
            changed(
                binding={
                    "type": "EvmBinding", "nonce": "01",
                    "max_fee_per_gas": "1", "max_priority_fee_per_gas": "1",
                }
            ),
            "not_minimal",
        ),
    ],
)  # fmt: skip
def test_anything_else_is_refused(body: bytes, code: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        load_request(body)
    assert caught.value.code == code


@settings(max_examples=300)
@given(st.data())
def test_a_mutated_request_raises_a_typed_refusal_or_loads(data: st.DataObject) -> None:
    body = bytearray(dump(Sign(intent=b"x", approvals=(APPROVAL,), binding=STELLAR)))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        request = load_request(bytes(body))
    except MalformedMessage:
        return
    assert load_request(dump(request)) == request


@given(text=st.text(), number=st.integers(-(2**200), 2**200), data=st.binary(max_size=80))
def test_a_message_is_sorted_compact_ascii_json(text: str, number: int, data: bytes) -> None:
    """As its journal entry, a fact has to read the same for ever, whatever writes it."""
    explained = replace(EXPLAINED, rule=text, obstacles=(text, ""), ready_at=number)
    for message in (explained, Signed(tx=data, tx_hash=text, intent_digest="")):
        value = json.loads(dump(message))
        assert dump(message) == json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")
        assert load_response(dump(message)) == message


def test_nested_records_name_their_type() -> None:
    assert json.loads(dump(Sign(intent=b"", approvals=(), binding=EVM)))["binding"]["type"] == "EvmBinding"


def test_frames_carry_many_messages_and_refuse_bad_lengths() -> None:
    left, right = socket.socketpair()
    with closing(left), closing(right):
        send_frame(left, b"one")
        send_frame(left, b"two")
        assert (receive_frame(right), receive_frame(right)) == (b"one", b"two")
        with pytest.raises(MalformedMessage):
            send_frame(left, b"x" * (FRAME_MAX + 1))
        left.sendall((FRAME_MAX + 1).to_bytes(4, "big"))
        with pytest.raises(MalformedMessage):
            receive_frame(right)


def test_a_closed_connection_is_told_from_a_cut_message() -> None:
    left, right = socket.socketpair()
    with closing(right):
        left.close()
        with pytest.raises(ConnectionEnded):
            receive_frame(right)
    left, right = socket.socketpair()
    with closing(right):
        left.sendall((5).to_bytes(4, "big") + b"ab")
        left.close()
        with pytest.raises(MalformedMessage):
            receive_frame(right)


def test_the_longest_page_of_keys_fits_a_frame() -> None:
    name = "x" * 64
    key = KeyView(
        key_id="0" * 32, org=name, vault=name, curve="secp256k1", label=name, public_key="ab" * 65,
        address="0x" + "a" * 40, storage="wrapped", origin="ceremony", state="pre_activation",
    )  # fmt: skip
    assert len(dump(KeyList(keys=(key,) * PAGE_MAX, total=10**6))) < FRAME_MAX
    wrapped = WrappedKeyView(
        key_id="0" * 32, vault=name, label=name, public_key=bytes(65), blob=bytes(72), wrapping_key=bytes(32)
    )
    page = WrappedKeyList(keys=(wrapped,) * PAGE_MAX, passed=PAGE_MAX, total=10**6)
    assert len(dump(page)) < FRAME_MAX
    batch = KeyBatch(org=name, attester=bytes(32), keys=(ATTESTED,) * BATCH_MAX)
    assert len(dump(batch)) < FRAME_MAX
    assert len(dump(AttestKeys(org=name, key_ids=("0" * 32,) * BATCH_MAX))) < FRAME_MAX
