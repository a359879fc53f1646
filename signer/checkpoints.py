"""Signatures under the heads of the ledgers' seal chains, by keys that can sign nothing else.

A checkpoint moves no money, so it needs no quorum. What the signer adds is memory: one key never signs two hashes under one
number, and never goes back, so that whoever holds an older checkpoint can be shown no other past under the same key.
"""

import re
from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from signer.facts import CheckpointSigned
from signer.protocol.attestation import STATEMENT_VAULTS
from signer.protocol.checkpoint import VAULT, checkpoint_message
from signer.protocol.messages import CreateKey, SignCheckpoint, SignedCheckpoint
from signer.record import Record
from signer.refusal import HsmFault, Refusal
from signer.state import State

SEQUENCE_MAX = 2**63 - 1
_ORG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}")

SignMessage = Callable[[bytes, str, bytes], bytes]
"""Key id, curve and 32 bytes to 64 bytes; raises HsmFault."""


def sign_checkpoint(record: Record, sign: SignMessage, request: SignCheckpoint) -> SignedCheckpoint:
    """Sign and journal one checkpoint; the newest one may be asked for again. The caller holds the signer's lock.

    Raises Refusal, or HsmFault after which the same request may be sent again.
    """
    if not (
        _ORG.fullmatch(request.org) and 1 <= request.sequence <= SEQUENCE_MAX and len(request.hash) == 32
    ):
        raise Refusal("bad_request", "a checkpoint is a number from 1 and a hash of 32 bytes")
    public_key = _key_of(record.state, request)
    last = record.state.checkpoints.get(request.key_id)
    if last is not None and request.sequence <= last.sequence:
        _check_repeated(last, request)
        return _view(last, public_key)
    message = checkpoint_message(request.org, request.sequence, request.hash)
    signature = sign(bytes.fromhex(request.key_id), "ed25519", message)
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature as error:
        raise HsmFault("the signature is not by the expected key") from error
    signed = CheckpointSigned(
        key_id=request.key_id,
        org=request.org,
        sequence=request.sequence,
        hash=request.hash,
        signature=signature,
    )
    record.append(signed)
    return _view(signed, public_key)


def check_first_key(state: State, request: CreateKey) -> None:
    """Raise Refusal("forbidden") unless this is, or repeats, the first key of its vault, of an org that has another key.

    For keys that sign statements only. So a requester needs no operator to begin with, and cannot fill the token with keys.
    """
    if request.request_id in state.key_requests:
        return
    vaults = [key.vault for key in state.reserved.values() if key.org == request.org]
    if request.vault not in STATEMENT_VAULTS or request.vault in vaults or not vaults:
        raise Refusal("forbidden", f"only the first key of {VAULT} of an org that has a key needs no rule")


def _key_of(state: State, request: SignCheckpoint) -> bytes:
    key, public_key = state.reserved.get(request.key_id), state.public_keys.get(request.key_id)
    if key is None or public_key is None or key.org != request.org:
        raise Refusal("unknown_key", "the key is not one of this org")
    if key.vault != VAULT:
        raise Refusal("key_purpose", "only a key of the vault checkpoints signs checkpoints")
    if state.standing[request.key_id][0] != "active":
        raise Refusal("key_not_active", "the key signs no more checkpoints")
    return public_key


def _check_repeated(last: CheckpointSigned, request: SignCheckpoint) -> None:
    if request.sequence < last.sequence:
        raise Refusal("checkpoint_behind", f"the key has signed checkpoint {last.sequence} already")
    if request.hash != last.hash:
        raise Refusal("checkpoint_exists_different", "the key has signed another hash under this number")


def _view(signed: CheckpointSigned, public_key: bytes) -> SignedCheckpoint:
    return SignedCheckpoint(
        key_id=signed.key_id,
        sequence=signed.sequence,
        hash=signed.hash,
        public_key=public_key.hex(),
        signature=signed.signature,
    )
