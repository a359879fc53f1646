"""Checkpoint signatures: what they are over, what the signer remembers, and every try to make one key do the other's work."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from stellar_sdk import Network, xdr

from signer.answers import answer
from signer.build import stellar
from signer.decide import Decider
from signer.protocol import canonical
from signer.protocol.approvals import approval_message
from signer.protocol.checkpoint import TAG, checkpoint_message
from signer.protocol.messages import CreateKey, KeyView, SignCheckpoint, SignedCheckpoint
from signer.refusal import HsmFault, Refusal
from tests.fakes.signer_desk import Desk, approved, code_of, make_key
from tests.fakes.signer_hsm import START, Crash, FakeToken
from tests.fakes.signer_people import (
    NETWORK_ID,
    PASSPHRASE,
    bind_stellar,
    make_payment,
    make_policy,
)

HASH, OTHER = b"\xab" * 32, b"\xcd" * 32
SPEC = Path(canonical.__file__).with_name("SPEC.md")


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(directory=tmp_path, token=FakeToken(), policy=make_policy())
    yield desk
    if desk.record is not None:
        desk.record.close()


def checkpoint_key(decider: Decider, org: str = "acme") -> KeyView:
    return make_key(decider, "ed25519", org=org, vault="checkpoints")


def ask(key: KeyView, sequence: int = 1, seal_hash: bytes = HASH, org: str = "acme") -> SignCheckpoint:
    return SignCheckpoint(key_id=key.key_id, org=org, sequence=sequence, hash=seal_hash)


def refused(decider: Decider, request: SignCheckpoint) -> str:
    with pytest.raises(Refusal) as caught:
        decider.sign_checkpoint(request)
    return caught.value.code


def verify(signed: SignedCheckpoint, message: bytes) -> None:
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(signed.public_key)).verify(signed.signature, message)


# --- what is signed -----------------------------------------------------------------------------------------------------


def test_the_signature_is_over_the_message_of_the_spec(decider: Decider) -> None:
    key = checkpoint_key(decider)
    signed = decider.sign_checkpoint(ask(key, 7))
    assert (signed.key_id, signed.sequence, signed.hash, signed.public_key) == (
        key.key_id,
        7,
        HASH,
        key.public_key,
    )
    sequence = (7).to_bytes(8, "big")
    verify(signed, hashlib.sha256(b"custody-checkpoint-v1\x00acme\x00" + sequence + HASH).digest())


def test_spec_shows_a_vector_that_holds() -> None:
    assert checkpoint_message("acme", 7, HASH).hex() in SPEC.read_text()


def test_no_other_domain_reads_the_signature_as_its_own(decider: Decider) -> None:
    signed = decider.sign_checkpoint(ask(checkpoint_key(decider)))
    number = (1).to_bytes(8, "big")
    others = [
        HASH,
        hashlib.sha256(HASH).digest(),
        hashlib.sha256(TAG + HASH).digest(),
        hashlib.sha256(b"acme\x00" + number + HASH).digest(),
        hashlib.sha256(b"custody-checkpoint-v2\x00acme\x00" + number + HASH).digest(),
        checkpoint_message("acme", 2, HASH),
        checkpoint_message("acm", 1, HASH),
        checkpoint_message("acme", 1, OTHER),
        approval_message(decision="approve", digest=HASH, approver_set_version=1),
        canonical.digest(HASH),
    ]
    for message in others:
        with pytest.raises(InvalidSignature):
            verify(signed, message)


def test_the_bytes_of_a_checkpoint_are_no_signature_base_of_any_known_network() -> None:
    """Stellar's signed bytes begin with a network id; a checkpoint's begin with the tag."""
    networks = {bytes.fromhex(NETWORK_ID), Network.public_network().network_id()}
    networks.add(Network.testnet_network().network_id())
    assert all(one[: len(TAG)] != TAG for one in networks)
    preimage = TAG + b"acme\x00" + (1).to_bytes(8, "big") + HASH
    with pytest.raises((ValueError, EOFError)):
        xdr.TransactionSignaturePayload.from_xdr_bytes(preimage)


# --- one key, one purpose -----------------------------------------------------------------------------------------------


def test_a_checkpoint_key_signs_no_intent_whatever_the_policy_says(signer: Desk, decider: Decider) -> None:
    key = checkpoint_key(decider)
    intent = make_payment(key, START, vault="checkpoints")
    assert code_of(decider, approved(intent, bind_stellar(intent, 1))) == "key_purpose"
    disguised = make_payment(key, START, vault="hot")
    assert code_of(decider, approved(disguised, bind_stellar(disguised, 1))) == "unknown_key"
    assert "sign" not in signer.token.calls


@pytest.mark.parametrize("curve", ["ed25519", "secp256k1"])
def test_a_payment_key_signs_no_checkpoint(signer: Desk, decider: Decider, curve: str) -> None:
    assert refused(decider, ask(make_key(decider, curve))) == "key_purpose"
    assert "sign" not in signer.token.calls


def test_a_transaction_hash_given_as_a_seal_does_not_become_its_signature(decider: Decider) -> None:
    """A requester who passes the hash of a payment off as a seal gets a signature that the network refuses."""
    payment = make_payment(make_key(decider, "ed25519"), START)
    unsigned = stellar.build_unsigned(payment, bind_stellar(payment, 1), PASSPHRASE)
    signed = decider.sign_checkpoint(ask(checkpoint_key(decider), 1, stellar.message_of(unsigned)))
    with pytest.raises(InvalidSignature):
        verify(signed, stellar.message_of(unsigned))


def test_a_checkpoint_key_is_an_ed25519_key(decider: Decider) -> None:
    asked = CreateKey(request_id="r", org="acme", vault="checkpoints", curve="secp256k1", label="l")
    with pytest.raises(Refusal) as caught:
        decider.keyring.create_key(asked)
    assert caught.value.code == "bad_request"


def test_a_key_signs_for_its_own_org_only(decider: Decider) -> None:
    key = checkpoint_key(decider)
    assert refused(decider, ask(key, org="rival")) == "unknown_key"
    assert refused(decider, replace(ask(key), key_id="0" * 32)) == "unknown_key"


@pytest.mark.parametrize(
    "changes",
    [
        {"sequence": 0},
        {"sequence": -1},
        {"sequence": 2**63},
        {"hash": HASH[:31]},
        {"hash": HASH + b"\x00"},
        {"hash": b""},
        {"org": ""},
        {"org": "acme\x00"},
        {"org": "a" * 65},
        {"org": "é"},
    ],
)
def test_a_malformed_request_is_refused(decider: Decider, changes: dict[str, object]) -> None:
    asked = replace(ask(checkpoint_key(decider)), **changes)  # type: ignore[arg-type] # wrong on purpose
    assert refused(decider, asked) == "bad_request"


@pytest.mark.parametrize("role", ["operator", "observer"])
def test_only_a_requester_asks_for_checkpoints(decider: Decider, role: str) -> None:
    with pytest.raises(Refusal) as caught:
        answer(decider, frozenset({role}), ask(checkpoint_key(decider)))
    assert caught.value.code == "forbidden"
    signed = answer(decider, frozenset({"requester"}), ask(checkpoint_key(decider)))
    assert isinstance(signed, SignedCheckpoint)


def test_a_requester_creates_the_first_checkpoint_key_of_a_known_org_and_no_other_key(
    decider: Decider,
) -> None:
    def create(request_id: str, role: str = "requester", vault: str = "checkpoints") -> object:
        asked = CreateKey(request_id=request_id, org="acme", vault=vault, curve="ed25519", label="l")
        return answer(decider, frozenset({role}), asked)

    def forbidden(*words: str) -> bool:
        with pytest.raises(Refusal) as caught:
            create(*words)
        return caught.value.code == "forbidden"

    assert forbidden("first")  # nobody knows the org yet
    make_key(decider)
    assert forbidden("first", "observer")
    assert forbidden("hot", "requester", "hot")
    first = create("first")
    assert create("first") == first
    assert forbidden("second")
    assert create("second", "operator") != first


# --- memory -------------------------------------------------------------------------------------------------------------


def test_the_newest_checkpoint_may_be_asked_for_again_also_after_a_restart(signer: Desk) -> None:
    decider = signer.start()
    key = checkpoint_key(decider)
    first = decider.sign_checkpoint(ask(key, 3))
    count = decider.health().journal_count
    assert decider.sign_checkpoint(ask(key, 3)) == first
    again = signer.start()
    assert again.sign_checkpoint(ask(key, 3)) == first
    assert again.health().journal_count == count


def test_one_key_never_signs_two_pasts(signer: Desk) -> None:
    decider = signer.start()
    key = checkpoint_key(decider)
    decider.sign_checkpoint(ask(key, 3))
    for one in (decider, signer.start()):
        assert refused(one, ask(key, 3, OTHER)) == "checkpoint_exists_different"
        assert refused(one, ask(key, 2)) == "checkpoint_behind"
        assert refused(one, ask(key, 2, OTHER)) == "checkpoint_behind"


def test_numbers_rise_per_key_and_a_new_key_begins_anew(decider: Decider) -> None:
    key = checkpoint_key(decider)
    decider.sign_checkpoint(ask(key, 5))
    decider.sign_checkpoint(ask(key, 9, OTHER))
    other = checkpoint_key(decider, "rival")
    assert decider.sign_checkpoint(ask(other, 1, org="rival")).sequence == 1


@pytest.mark.parametrize("step", range(1, 5))
def test_a_crash_at_any_step_leaves_one_signature_or_none(signer: Desk, step: int) -> None:
    decider = signer.start()
    key = checkpoint_key(decider)
    signer.token.calls.clear()
    signer.token.crash_at = step
    with pytest.raises(Crash):
        decider.sign_checkpoint(ask(key, 4))
    assert signer.token.calls == ["sign", "mac", "anchor", "anchor torn"][:step]
    again = signer.start()
    verify(again.sign_checkpoint(ask(key, 4)), checkpoint_message("acme", 4, HASH))
    assert refused(again, ask(key, 4, OTHER)) == "checkpoint_exists_different"


def test_a_failing_hsm_leaves_the_number_free(signer: Desk, decider: Decider) -> None:
    key = checkpoint_key(decider)
    signer.token.failing = "sign"
    with pytest.raises(HsmFault):
        decider.sign_checkpoint(ask(key))
    signer.token.failing = ""
    assert decider.sign_checkpoint(ask(key, 1, OTHER)).hash == OTHER


def test_a_wrong_signature_from_the_hsm_is_never_journaled(signer: Desk, decider: Decider) -> None:
    key = checkpoint_key(decider)
    count = decider.health().journal_count
    signer.token.seeds[bytes.fromhex(key.key_id)] = bytes(32)
    with pytest.raises(HsmFault):
        decider.sign_checkpoint(ask(key))
    assert decider.health().journal_count == count
