"""Signatures of one transaction, given apart, in one envelope."""

import base64

import pytest
from stellar_sdk import Account, Asset, Keypair, TransactionBuilder, TransactionEnvelope

from custody.chains.stellar.envelopes import EnvelopesDiffer, merge_envelopes

PASSPHRASE = "Custody Devnet ; 2026"
KEYS = [Keypair.from_raw_ed25519_seed(bytes([n]) * 32) for n in range(1, 22)]


def envelope(*keys: Keypair, amount: str = "1") -> bytes:
    builder = TransactionBuilder(Account(KEYS[0].public_key, 1), PASSPHRASE, base_fee=100)
    built = (
        builder.append_payment_op(KEYS[1].public_key, Asset.native(), amount).add_time_bounds(0, 9).build()
    )
    for key in keys:
        built.sign(key)
    return base64.b64decode(built.to_xdr())


def test_both_signatures_stand_in_one_envelope_in_their_order() -> None:
    merged = merge_envelopes([envelope(KEYS[0]), envelope(KEYS[1])], PASSPHRASE)
    assert merged == envelope(KEYS[0], KEYS[1])


def test_a_signature_given_twice_stands_once() -> None:
    once = envelope(KEYS[0])
    assert merge_envelopes([once, once], PASSPHRASE) == once
    assert merge_envelopes([envelope(KEYS[0], KEYS[1]), once], PASSPHRASE) == envelope(KEYS[0], KEYS[1])


@pytest.mark.parametrize(
    "others",
    [
        [envelope(KEYS[1], amount="2")],
        [b""],
        [b"\0\0\0\2"],
        [envelope(KEYS[1])[:-1]],
        [envelope(key) for key in KEYS[1:]],
    ],
    ids=["another transaction", "nothing", "a beginning", "cut", "more than twenty"],
)
def test_what_is_not_of_one_transaction_is_refused(others: list[bytes]) -> None:
    with pytest.raises(EnvelopesDiffer) as caught:
        merge_envelopes([envelope(KEYS[0]), *others], PASSPHRASE)
    assert caught.value.code == "envelopes_differ"


def test_no_envelope_at_all_is_refused() -> None:
    with pytest.raises(EnvelopesDiffer):
        merge_envelopes([], PASSPHRASE)


def test_the_hash_does_not_depend_on_signatures() -> None:
    merged = merge_envelopes([envelope(KEYS[0]), envelope(KEYS[1])], PASSPHRASE)
    text = base64.b64encode(merged).decode()
    unsigned = base64.b64encode(envelope()).decode()
    assert (
        TransactionEnvelope.from_xdr(text, PASSPHRASE).hash()
        == TransactionEnvelope.from_xdr(unsigned, PASSPHRASE).hash()
    )
