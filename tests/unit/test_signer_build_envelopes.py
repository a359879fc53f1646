"""What goes around a Stellar transaction: fee bumps, the signatures of exactly the right keys, and bindings that fit."""

import base64
from dataclasses import replace
from typing import Any

import pytest
from stellar_sdk import (
    FeeBumpTransactionEnvelope,
    Keypair,
    TransactionBuilder,
    TransactionEnvelope,
)

from signer.build import assembly, stellar, stellar_fee_bump
from signer.build.assembly import Earlier
from signer.protocol.messages import FeeBinding, NoBinding
from signer.refusal import HsmFault, Refusal
from tests.fakes.signer_bytes import CHANNEL, KEY, NETWORKS, OPERATIONS, build, make, sign
from tests.fakes.signer_hsm import START
from tests.fakes.signer_kinds import bind_kind
from tests.fakes.signer_people import ISSUER, PASSPHRASE, bind_evm

# --- fee bumps, channels, other bindings ----------------------------------------------------------------------------------


def bump(inner_kind: str, fee: int = 1000) -> tuple[Any, bytes, TransactionEnvelope, Any]:
    inner = make(inner_kind)
    unsigned, binding = build(inner)
    keys = (KEY, CHANNEL) if inner_kind == "stellar_channel_payment" else (KEY,)
    tx, _ = assembly.finish(inner, unsigned, sign(inner, unsigned, *keys), NETWORKS)
    intent = make("stellar_fee_bump")
    earlier = Earlier(intent=inner, binding=binding, tx=tx)
    outer = assembly.build_unsigned(intent, FeeBinding(fee=fee), earlier, NETWORKS, START)
    return intent, outer, TransactionEnvelope.from_xdr(base64.b64encode(tx).decode(), PASSPHRASE), earlier


@pytest.mark.parametrize("kind", OPERATIONS)
def test_a_fee_bump_is_what_the_sdk_builds_around_the_inner_transaction(kind: str) -> None:
    intent, unsigned, inner, _ = bump(kind)
    oracle = TransactionBuilder.build_fee_bump_transaction(KEY.address, 5_000, inner, PASSPHRASE)
    oracle.transaction.fee = 1000
    assert unsigned == oracle.signature_base()
    tx, tx_hash = assembly.finish(intent, unsigned, sign(intent, unsigned, KEY), NETWORKS)
    envelope = FeeBumpTransactionEnvelope.from_xdr(base64.b64encode(tx).decode(), PASSPHRASE)
    assert envelope.hash_hex() == tx_hash == oracle.hash_hex()
    (decorated,) = envelope.signatures
    Keypair.from_public_key(KEY.address).verify(envelope.hash(), decorated.signature)
    assert envelope.transaction.inner_transaction_envelope.to_xdr() == inner.to_xdr()


@pytest.mark.parametrize("fee", [199, 1001, 0, -1])
def test_a_fee_bump_bids_within_its_cap(fee: int) -> None:
    with pytest.raises(Refusal, match="bad_binding"):
        bump("stellar_payment", fee)


def test_a_fee_bump_of_anything_else_is_refused() -> None:
    intent, unsigned, _, earlier = bump("stellar_payment")
    built = stellar_fee_bump._fee_bump_of(unsigned, PASSPHRASE)
    stellar_fee_bump._check_fields(built, intent, FeeBinding(fee=1000), earlier.tx)
    for other, binding, inner in (
        (replace(intent, source=ISSUER), FeeBinding(fee=1000), earlier.tx),
        (intent, FeeBinding(fee=999), earlier.tx),
        (intent, FeeBinding(fee=1000), earlier.tx[:-1] + b"\0"),
    ):
        with pytest.raises(Refusal):
            stellar_fee_bump._check_fields(built, other, binding, inner)
    with pytest.raises(Refusal):
        stellar._transaction_of(unsigned, PASSPHRASE)
    with pytest.raises(Refusal):
        stellar_fee_bump._fee_bump_of(build(make("stellar_payment"))[0], PASSPHRASE)


@pytest.mark.parametrize(("kind", "keys"), [
    ("stellar_channel_payment", (KEY,)),
    ("stellar_channel_payment", (CHANNEL,)),
    ("stellar_payment", (KEY, CHANNEL)),
    ("stellar_payment", (CHANNEL,)),
    ("stellar_payment", ()),
    ("stellar_fee_bump", (KEY, CHANNEL)),
    ("stellar_message", (KEY, CHANNEL)),
])  # fmt: skip
def test_exactly_the_keys_of_the_sources_sign(kind: str, keys: tuple[Any, ...]) -> None:
    intent = make(kind)
    unsigned = bump("stellar_payment")[1] if kind == "stellar_fee_bump" else build(intent)[0]
    with pytest.raises(HsmFault):
        assembly.finish(intent, unsigned, sign(intent, unsigned, *keys), NETWORKS)


@pytest.mark.parametrize(
    "kind", ["stellar_payment", "stellar_contract_payment", "stellar_fee_bump", "stellar_message"]
)
def test_a_binding_of_another_kind_is_refused(kind: str) -> None:
    intent = make(kind)
    fitting = type(bind_kind(intent, 5))
    others = [bind_kind(make(other), 5) for other in ("stellar_payment", "stellar_contract_payment")]
    for binding in (*others, FeeBinding(fee=1000), bind_evm(0), NoBinding()):
        if not isinstance(binding, fitting):
            with pytest.raises(Refusal, match="bad_binding"):
                assembly.build_unsigned(intent, binding, bump("stellar_payment")[3], NETWORKS, START)
