"""What an intent points at inside the signer's own record: a key that must be ours, a channel, an intent signed before.

The requester names these things; whether they are there, and are what the approvers were shown, is looked up here.
"""

from dataclasses import dataclass

from signer.build.address import address_of, curve_of
from signer.build.assembly import Earlier
from signer.effects import amount_of, asset_of, destination_of, named_by, own_vault_of
from signer.policy.cosigned import Cosigned
from signer.policy.document import Policy
from signer.protocol import canonical
from signer.protocol.attestation import STATEMENT_VAULTS
from signer.protocol.intent import (
    EvmCall,
    EvmReplace,
    Intent,
    StellarChannelPayment,
    StellarFeeBump,
    StellarOperation,
)
from signer.protocol.intents.stellar_payments import CHANNELS
from signer.refusal import Refusal
from signer.state import State


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """What was found."""

    slot_key: str
    """Key that signs because the transaction uses its sequence number or nonce: the intent's own, or the channel's."""
    slot_owner: str
    """Whose number it is: this key, or the account, by its address, that the key signs for with others."""
    earlier: Earlier | None
    """What the named intent became; None when none is named."""


def resolve(state: State, intent: Intent) -> References:
    """Look up all that the intent points at; raises Refusal when something is not there or not as the intent says."""
    vault = own_vault_of(intent)
    if vault and (vault in STATEMENT_VAULTS or not _key_at(state, intent, vault, destination_of(intent))):
        raise Refusal("foreign_destination", "the destination is no key of this org in that vault")
    slot_key = intent.key_id
    if isinstance(intent, StellarChannelPayment):
        slot_key = _key_at(state, intent, CHANNELS, intent.channel)
        if not slot_key:
            raise Refusal("unknown_channel", "the channel is no key of this org in the vault channels")
    shared = slot_key == intent.key_id and not _is_own(state, intent)
    owner = intent.source if shared else slot_key
    return References(slot_key=slot_key, slot_owner=owner, earlier=_earlier_of(state, intent))


def cosigns(policy: Policy, intent: Intent) -> bool:
    """Tell whether the policy lets the intent's key sign a transaction of an account that is not its own.

    Not a message, which would claim the account alone, and not a fee bump, which pays with one signature.
    """
    named = Cosigned(account=intent.source, chain=intent.chain, key=intent.key_id)
    return isinstance(intent, StellarOperation) and named in policy.cosigned


def _is_own(state: State, intent: Intent) -> bool:
    key = state.reserved[intent.key_id]
    return address_of(key.curve, state.public_keys[intent.key_id]) == intent.source


def _key_at(state: State, intent: Intent, vault: str, address: str) -> str:
    """Return the id of the org's active key in this vault at this address on the intent's chain; "" for none."""
    key_ids = state.keys_of.get(intent.org, [])
    for key_id in state.addresses[intent.org].find(key_ids, lambda one: _address_of(state, one), address):
        key = state.reserved[key_id]
        if (key.vault, key.curve) == (vault, curve_of(intent)) and state.standing[key_id][0] == "active":
            return key_id
    return ""


def _address_of(state: State, key_id: str) -> str:
    return address_of(state.reserved[key_id].curve, state.public_keys[key_id])


def _earlier_of(state: State, intent: Intent) -> Earlier | None:
    digest = named_by(intent)
    if digest == b"":
        return None
    bound, signed = state.bound.get(digest), state.signed.get(digest)
    if bound is None or signed is None or (bound.org, bound.chain) != (intent.org, intent.chain):
        raise Refusal("unknown_intent", "nothing was signed for this org and chain under the digest named")
    earlier = Earlier(intent=canonical.decode(bound.intent), binding=bound.binding, tx=signed.tx)
    if isinstance(intent, StellarFeeBump):
        if not isinstance(earlier.intent, StellarOperation):
            raise Refusal("unknown_intent", "only a transaction can be bumped, and only once around")
        return earlier
    if not isinstance(earlier.intent, EvmCall) or earlier.intent.key_id != intent.key_id:
        raise Refusal("unknown_intent", "only the first intent on a nonce of the same key can be named")
    if isinstance(intent, EvmReplace):
        _check_same_effect(intent, earlier.intent)
    return earlier


def _check_same_effect(intent: EvmReplace, replaced: EvmCall) -> None:
    """Hold what the approvers were shown against what the record holds."""
    shown = (intent.replaced_kind, intent.asset, intent.destination, intent.amount, intent.gas_limit)
    held = (
        canonical.kind_of(replaced),
        asset_of(replaced),
        destination_of(replaced),
        amount_of(replaced),
        replaced.gas_limit,
    )
    if shown != held:
        raise Refusal("effect_differs", "a replacement has the effect of the intent that it replaces")
