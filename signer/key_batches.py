"""Keys made ahead of need, many at once, and the signer's signed word for whose they are.

A batch is so many single orders, each judged by the rules and journaled as its own fact, so it can do nothing that single
requests could not: what windows count, they count per key. The token makes the keys outside the lock, a few at a time, so that
signatures do not wait for a batch; what it made for an order that is then refused, or was carried out meanwhile, is thrown away
unseen.
"""

import hashlib
import secrets

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from signer.admission import BORN, WRAPPED_CURVE, Keys, names_same_key, reserve, wrapped_fact
from signer.key_orders import warrant_by_rule
from signer.protocol.attestation import STATEMENT_VAULTS, VAULT, attestation_message
from signer.protocol.key_batches import BATCH_MAX, AttestedKey, AttestKeys, CreateKeys, KeyBatch, item_names
from signer.protocol.messages import CreateKey
from signer.record import Record
from signer.refusal import HsmFault, Refusal
from signer.state import State

_TOGETHER = 16
"""Keys that become durable as one entry of the journal."""


def read_batch(request: CreateKeys) -> list[CreateKey]:
    """Return the single orders of a batch; raises Refusal("bad_request")."""
    if not 1 <= request.count <= BATCH_MAX or request.vault in STATEMENT_VAULTS:
        raise Refusal("bad_request", f"a batch is 1 to {BATCH_MAX} keys that may sign transactions")
    return [_order(request, number) for number in range(1, request.count + 1)]


def create_batch(record: Record, keys: Keys, orders: list[CreateKey]) -> tuple[str, ...]:
    """Carry out all orders that are not yet; return the ids of their keys. Idempotent by the orders' request ids.

    Raises Refusal or HsmFault. Keys made until then stay, and the same orders later make the others.
    """
    with record.deciding():
        missing = [order for order in orders if not _is_made(record.state, order)]
        for order in missing[:1]:
            # Before the token works for nothing.
            warrant_by_rule(record, order)
    for begin in range(0, len(missing), _TOGETHER):
        few = missing[begin : begin + _TOGETHER]
        born = [keys.generate_wrapped() for _ in few]
        with record.deciding():
            for order, key in zip(few, born, strict=True):
                if not _is_made(record.state, order):
                    asked = reserve(order, secrets.token_hex(16), warrant_by_rule(record, order))
                    record.append(wrapped_fact(asked, key, BORN))
    with record.deciding():
        return tuple(record.state.key_requests[order.request_id].key_id for order in orders)


def find_attester(state: State, org: str) -> tuple[str, bytes] | None:
    """Return id and public half of the org's newest key for attestations; None before it has one. Raises Refusal when it may not
    sign."""
    key_id = state.attesters.get(org)
    if key_id is None:
        return None
    if state.standing[key_id][0] != "active":
        raise Refusal("key_not_active", "the org's key for attestations signs no more; make another")
    return key_id, state.public_keys[key_id]


def first_attester(org: str) -> CreateKey:
    """Return the order for an org's first key for attestations."""
    name = hashlib.sha256(org.encode("ascii")).hexdigest()[:40]
    return CreateKey(request_id=f"attester.{name}", org=org, vault=VAULT, curve="ed25519", label=VAULT)


def attest(
    record: Record, keys: Keys, org: str, attester: tuple[str, bytes], key_ids: tuple[str, ...]
) -> KeyBatch:
    """Vouch for these keys of the org. Raises Refusal("unknown_key"), HsmFault."""
    with record.deciding():
        found = [_find(record.state, org, key_id) for key_id in key_ids]
    signer_id, public_key = attester
    return KeyBatch(
        org=org,
        attester=public_key,
        keys=tuple(
            AttestedKey(
                key_id=key_id,
                vault=vault,
                public_key=public,
                attestation=_sign(
                    keys,
                    signer_id,
                    public_key,
                    attestation_message(org, vault, bytes.fromhex(key_id), public),
                ),
            )
            for key_id, vault, public in found
        ),
    )


def check_attest(request: AttestKeys) -> None:
    """Raise Refusal("bad_request") unless it asks for a bounded number of keys."""
    if len(request.key_ids) > BATCH_MAX:
        raise Refusal("bad_request", f"at most {BATCH_MAX} keys are vouched for at once")


def _order(request: CreateKeys, number: int) -> CreateKey:
    request_id, label = item_names(request, number)
    return CreateKey(
        request_id=request_id,
        org=request.org,
        vault=request.vault,
        curve=WRAPPED_CURVE,
        label=label,
        storage="wrapped",
    )


def _is_made(state: State, order: CreateKey) -> bool:
    known = state.key_requests.get(order.request_id)
    if known is not None and not (names_same_key(known, order) and known.key_id in state.wrapped):
        raise Refusal("key_exists_different", "this request_id made another key")
    return known is not None


def _find(state: State, org: str, key_id: str) -> tuple[str, str, bytes]:
    key, public_key = state.reserved.get(key_id), state.public_keys.get(key_id)
    if key is None or public_key is None or key.org != org or key.curve != WRAPPED_CURVE:
        raise Refusal("unknown_key", "there is no such secp256k1 key of this org")
    return key_id, key.vault, public_key


def _sign(keys: Keys, key_id: str, public_key: bytes, message: bytes) -> bytes:
    signature = keys.sign(bytes.fromhex(key_id), "ed25519", message)
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature as error:
        raise HsmFault("the signature is not by the expected key") from error
    return signature
