"""Whether what the journal calls signed is signed: by the keys that had to, over the bytes that were bound."""

import rlp
from rlp.exceptions import DecodingError

from signer.build.assembly import finish
from signer.facts import Bound, TransactionSigned
from signer.policy.document import parse_policy
from signer.protocol import canonical
from signer.protocol.intent import Intent, MessageIntent, StellarIntent
from signer.refusal import EvidenceFault
from signer.state import State
from signer.stops import refuse_stopped

_SIGNATURE_BYTES = 64
_DECORATED_BYTES = 72


def check_signed(state: State, signed: TransactionSigned) -> None:
    """Raise EvidenceFault, or what the builders raise, unless these bytes are the bound ones under signatures that verify."""
    bound = state.bound.get(signed.digest)
    if bound is None:
        raise EvidenceFault("it was never bound")
    if signed.digest in state.signed:
        raise EvidenceFault("it was signed before")
    if signed.digest in state.vetoed:
        raise EvidenceFault("somebody had rejected it")
    if signed.digest in state.voided:
        raise EvidenceFault("its requester had given it up")
    intent = canonical.decode(bound.intent)
    # Between what was decided and the bytes an order may have come: nothing is signed after it.
    refuse_stopped(state, intent, bound.slot_key)
    owners = [state.public_keys[key_id] for key_id in _key_ids(state, bound)]
    signatures = dict(zip(owners, _signatures(intent, signed.tx, len(owners)), strict=True))
    networks = _networks(state, intent.policy_version)
    made = finish(intent, bound.unsigned, signatures, networks, owners[0])
    if made != (signed.tx, signed.tx_hash):
        raise EvidenceFault("its bytes or its hash are not those of what was bound")


def _key_ids(state: State, bound: Bound) -> list[str]:
    """Return who has to sign, in the order of `Decider`: the intent's key, then the one that lends the sequence number."""
    lends = bound.slot_key in state.public_keys
    return list(dict.fromkeys((bound.key_id, bound.slot_key if lends else bound.key_id)))


def _networks(state: State, version: int) -> dict[str, str]:
    """Return the networks of the policy under which it was bound; a newer one may have come while the HSM signed."""
    (document,) = [each.document for each in state.policies if each.version == version]
    return parse_policy(document).networks


def _signatures(intent: Intent, tx: bytes, count: int) -> list[bytes]:
    """Return the raw signatures where they must stand, in their order. That nothing else stands around them the caller checks."""
    if isinstance(intent, MessageIntent):
        return [tx[:_SIGNATURE_BYTES]]
    if isinstance(intent, StellarIntent):
        # An envelope ends with them: hint, length and signature each.
        ends = range(len(tx) - (count - 1) * _DECORATED_BYTES, len(tx) + 1, _DECORATED_BYTES)
        return [tx[end - _SIGNATURE_BYTES : end] for end in ends]
    try:
        *_, r, s = rlp.decode(tx[1:])
        return [bytes(r).rjust(32, b"\0") + bytes(s).rjust(32, b"\0")]
    except (DecodingError, TypeError, ValueError) as error:
        raise EvidenceFault("it is no transaction") from error
