"""Stellar bytes of the kinds beyond payments: equal to those of the SDK's builder, and refused when anything in them differs."""

import base64
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stellar_sdk import (
    Account,
    Asset,
    Claimant,
    ClaimPredicate,
    Keypair,
    MuxedAccount,
    Signer,
    TransactionBuilder,
    TransactionEnvelope,
    xdr,
)

from signer.build import assembly, stellar, stellar_contract
from signer.protocol.fields import payload_of
from signer.refusal import Refusal
from tests.fakes.signer_bytes import CHANNEL, KEY, LONG_ASSET, NETWORKS, OPERATIONS, USDC, build, make, sign
from tests.fakes.signer_kinds import CONTRACT, CREDIT, LONG, SAMPLES, bind_kind
from tests.fakes.signer_people import CUSTOMER, ISSUER, NETWORK_ID, PASSPHRASE

# --- equal to the SDK's builder -------------------------------------------------------------------------------------------

_ADD: dict[str, Callable[[TransactionBuilder], object]] = {
    "stellar_payment": lambda tx: tx.append_payment_op(CUSTOMER, Asset.native(), "1.2345678"),
    "stellar_channel_payment": lambda tx: tx.append_payment_op(CUSTOMER, USDC, "0.0000007", KEY.address),
    "stellar_contract_payment": lambda tx: tx.append_payment_to_contract_op(
        CONTRACT, USDC, "922337203685.4775807", 400_000, 500, 300, 900
    ),
    "stellar_create_account": lambda tx: tx.append_create_account_op(CUSTOMER, "1"),
    "stellar_create_claimable_balance": lambda tx: tx.append_create_claimable_balance_op(
        USDC, "2.5", [Claimant(CUSTOMER, ClaimPredicate.predicate_unconditional())]
    ).add_id_memo(77),
    "stellar_path_payment_strict_send": lambda tx: tx.append_path_payment_strict_send_op(
        MuxedAccount(CUSTOMER, 77), Asset.native(), "0.00005", USDC, "0.0000003", [Asset.native(), LONG_ASSET]
    ),
    "stellar_path_payment_strict_receive": lambda tx: tx.append_path_payment_strict_receive_op(
        CUSTOMER, USDC, "0.00005", LONG_ASSET, "0.0000003", []
    ).add_id_memo(9),
    "stellar_change_trust": lambda tx: tx.append_change_trust_op(LONG_ASSET, "5"),
    "stellar_anchor": lambda tx: tx.append_payment_op(KEY.address, Asset.native(), "0.0000001").add_hash_memo("5a" * 32),
    "stellar_account_merge": lambda tx: tx.append_account_merge_op(CUSTOMER),
    "stellar_set_options": lambda tx: tx.append_set_options_op(
        low_threshold=0, med_threshold=2, high_threshold=255, signer=Signer.ed25519_public_key(CUSTOMER, 1)
    ),
    "stellar_claim_claimable_balance": lambda tx: tx.append_claim_claimable_balance_op("00000000" + "cd" * 32),
    "stellar_memo_required": lambda tx: tx.append_manage_data_op("config.memo_required", "1"),
}  # fmt: skip


@pytest.mark.parametrize("kind", OPERATIONS)
def test_bytes_equal_those_of_the_sdks_builder(kind: str) -> None:
    intent = make(kind)
    unsigned, _ = build(intent)
    channel = kind == "stellar_channel_payment"
    sender = CHANNEL.address if channel else KEY.address
    # Of a contract call the builder adds the resource fee to the base fee; the intent's cap holds both.
    base_fee = 100 if kind == "stellar_contract_payment" else 1000
    builder = TransactionBuilder(Account(sender, 4), PASSPHRASE, base_fee=base_fee)
    _ADD[kind](builder)
    oracle = builder.add_time_bounds(0, intent.expires_at).set_ledger_bounds(0, 5_000).build()
    oracle.transaction.fee = 1000
    assert unsigned == oracle.signature_base()
    keys = (KEY, CHANNEL) if channel else (KEY,)
    tx, tx_hash = assembly.finish(intent, unsigned, sign(intent, unsigned, *keys), NETWORKS)
    envelope = TransactionEnvelope.from_xdr(base64.b64encode(tx).decode(), PASSPHRASE)
    assert envelope.hash_hex() == tx_hash == oracle.hash_hex()
    assert len(envelope.signatures) == len(keys)
    for key, decorated in zip(keys, envelope.signatures, strict=True):
        Keypair.from_public_key(key.address).verify(envelope.hash(), decorated.signature)
        assert decorated.signature_hint == Keypair.from_public_key(key.address).signature_hint()


def test_a_native_payment_to_a_contract_writes_the_account() -> None:
    intent = make("stellar_contract_payment", asset="native", amount=10**7, max_fee=70_000)
    unsigned, binding = build(intent)
    builder = TransactionBuilder(Account(KEY.address, 4), PASSPHRASE, base_fee=100)
    builder.append_payment_to_contract_op(
        CONTRACT, Asset.native(), "1", 400_000, 500, 300, binding.resource_fee
    )
    oracle = builder.add_time_bounds(0, intent.expires_at).set_ledger_bounds(0, 5_000).build()
    oracle.transaction.fee = binding.frame.fee
    assert unsigned == oracle.signature_base()


@settings(max_examples=60, deadline=None)
@given(
    code=st.from_regex(r"[A-Za-z0-9]{1,12}", fullmatch=True), seed=st.binary(min_size=32, max_size=32), native=st.booleans()
)  # fmt: skip
def test_the_contract_of_an_asset_is_the_one_that_the_sdk_names(code: str, seed: bytes, native: bool) -> None:
    issuer = Keypair.from_raw_ed25519_seed(seed).public_key
    asset, text = (Asset.native(), "native") if native else (Asset(code, issuer), f"{code}:{issuer}")
    raw = stellar_contract.contract_of(text, bytes.fromhex(NETWORK_ID))
    assert payload_of(asset.contract_id(PASSPHRASE)) == raw


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_weights_and_thresholds_are_what_the_sdk_reads(data: st.DataObject) -> None:
    weight = st.one_of(st.just(""), st.integers(1, 255).map(str))
    low, med, high = sorted(data.draw(st.integers(0, 255)) for _ in range(3))
    intent = make(
        "stellar_set_options", master_weight=data.draw(weight), signer_weight=str(data.draw(st.integers(0, 255))),
        low_threshold=str(low), med_threshold=str(med), high_threshold=str(high),
    )  # fmt: skip
    unsigned, _ = build(intent)
    tx, _ = assembly.finish(intent, unsigned, sign(intent, unsigned, KEY), NETWORKS)
    read: Any = TransactionEnvelope.from_xdr(
        base64.b64encode(tx).decode(), PASSPHRASE
    ).transaction.operations[0]
    assert (read.low_threshold, read.med_threshold, read.high_threshold) == (low, med, high)
    assert read.master_weight == (int(intent.master_weight) if intent.master_weight else None)
    assert (read.signer.weight, read.signer.signer_key.encoded_signer_key) == (
        int(intent.signer_weight),
        CUSTOMER,
    )
    assert (read.inflation_dest, read.clear_flags, read.set_flags, read.home_domain) == (
        None,
        None,
        None,
        None,
    )


# --- refused when anything differs ----------------------------------------------------------------------------------------


def check(tx: xdr.Transaction, intent: Any, binding: Any) -> None:
    stellar._check_fields(tx, intent, binding)


@pytest.mark.parametrize("kind", OPERATIONS)
@pytest.mark.parametrize("other", OPERATIONS)
def test_the_bytes_of_one_kind_are_not_those_of_another(kind: str, other: str) -> None:
    intent = make(kind)
    unsigned, binding = build(intent)
    tx = stellar._transaction_of(unsigned, PASSPHRASE)
    if kind == other:
        return check(tx, intent, binding)
    with pytest.raises(Refusal):
        check(tx, make(other), bind_kind(make(other), 5))
    return None


_CHANGED: dict[str, Any] = {
    "destination": ISSUER, "memo_type": "text", "memo": "other", "asset": f"EURX:{ISSUER}", "amount": 8, "channel": ISSUER,
    "send_asset": LONG, "send_amount": 501, "send_max": 501, "dest_asset": "native", "dest_min": 4, "dest_amount": 4,
    "path": CREDIT, "limit": 1, "hash": "5b" * 32, "signer_key": ISSUER, "signer_weight": "2", "master_weight": "1",
    "low_threshold": "", "med_threshold": "3", "high_threshold": "254", "balance_id": "ce" * 32, "source": ISSUER,
}  # fmt: skip
_NOT_IN_BYTES = {"max_fee", "network_id", "destination_vault"}


@pytest.mark.parametrize(
    ("kind", "field"),
    [(kind, field) for kind in OPERATIONS for field in sorted({*SAMPLES[kind], "source"} - _NOT_IN_BYTES)],
)
def test_every_field_of_the_effect_is_compared(kind: str, field: str) -> None:
    intent = make(kind)
    unsigned, binding = build(intent)
    tx = stellar._transaction_of(unsigned, PASSPHRASE)
    value = _CHANGED[field]
    if (kind, field) == ("stellar_contract_payment", "destination"):
        value = Asset.native().contract_id(PASSPHRASE)
    changes = {field: value}
    if field == "memo":
        changes["memo_type"] = "text"
    with pytest.raises(Refusal):
        check(tx, replace(intent, **changes), binding)


@pytest.mark.parametrize(
    "changes",
    [
        {"set_flags": xdr.Uint32(1)},
        {"clear_flags": xdr.Uint32(1)},
        {"home_domain": xdr.String32(b"x")},
        {"inflation_dest": Keypair.from_public_key(CUSTOMER).xdr_account_id()},
    ],
)
def test_options_that_no_intent_has_are_refused(changes: dict[str, Any]) -> None:
    intent = make("stellar_set_options")
    unsigned, binding = build(intent)
    tx = stellar._transaction_of(unsigned, PASSPHRASE)
    for name, value in changes.items():
        setattr(tx.operations[0].body.set_options_op, name, value)
    with pytest.raises(Refusal):
        check(tx, intent, binding)


def _second_operation(tx: xdr.Transaction) -> None:
    tx.operations.append(tx.operations[0])


def _other_source(tx: xdr.Transaction) -> None:
    tx.operations[0].source_account = MuxedAccount(CUSTOMER).to_xdr_object()


def _no_bounds(tx: xdr.Transaction) -> None:
    tx.cond = xdr.Preconditions(xdr.PreconditionType.PRECOND_NONE)


def _no_time_bounds(tx: xdr.Transaction) -> None:
    assert tx.cond.v2 is not None
    tx.cond.v2.time_bounds = None


def _sequence_precondition(tx: xdr.Transaction) -> None:
    assert tx.cond.v2 is not None
    tx.cond.v2.min_seq_num = xdr.SequenceNumber(xdr.Int64(1))


def _sequence_age(tx: xdr.Transaction) -> None:
    assert tx.cond.v2 is not None
    tx.cond.v2.min_seq_age = xdr.Duration(xdr.Uint64(1))


def _sequence_gap(tx: xdr.Transaction) -> None:
    assert tx.cond.v2 is not None
    tx.cond.v2.min_seq_ledger_gap = xdr.Uint32(1)


def _extra_signer(tx: xdr.Transaction) -> None:
    assert tx.cond.v2 is not None
    key = xdr.SignerKey(xdr.SignerKeyType.SIGNER_KEY_TYPE_HASH_X, hash_x=xdr.Uint256(bytes(32)))
    tx.cond.v2.extra_signers = [key]


@pytest.mark.parametrize(
    "spoil",
    [
        _second_operation, _other_source, _no_bounds, _no_time_bounds, _sequence_precondition, _sequence_age,
        _sequence_gap, _extra_signer,
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", OPERATIONS)
def test_a_frame_with_anything_else_in_it_is_refused(
    kind: str, spoil: Callable[[xdr.Transaction], None]
) -> None:
    intent = make(kind)
    unsigned, binding = build(intent)
    tx = stellar._transaction_of(unsigned, PASSPHRASE)
    spoil(tx)
    with pytest.raises(Refusal):
        check(tx, intent, binding)
