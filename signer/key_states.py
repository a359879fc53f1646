"""The life of a key, as a table, and what each state lets a key do. Source: NIST SP 800-57 part 1 rev. 5, section 7."""

from signer.build.address import address_of
from signer.effects import destination_of
from signer.protocol.governance import KeyStateChange
from signer.protocol.intent import Intent
from signer.refusal import Refusal
from signer.state import State

TRANSITIONS = frozenset(
    {
        # Made and not yet trusted with anything: its first use begins, or never comes.
        ("pre_activation", "active"),
        ("pre_activation", "compromised"),
        ("pre_activation", "destroyed"),
        # A doubt, which may be cleared.
        ("active", "suspended"),
        ("suspended", "active"),
        # Its time is over; it can still send what it holds to its successor.
        ("active", "deactivated"),
        ("suspended", "deactivated"),
        # Somebody else may have it.
        ("active", "compromised"),
        ("suspended", "compromised"),
        ("deactivated", "compromised"),
        # A private signature key may end at once. The record says so; whether the token's object goes is the HSM's affair.
        ("active", "destroyed"),
        ("suspended", "destroyed"),
        ("deactivated", "destroyed"),
        ("compromised", "destroyed"),
    }
)
"""All ways from one state into another."""


def check_may_sign(state: State, intent: Intent) -> None:
    """Raise Refusal("key_not_active") unless the key is active, or deactivated and sends to its successor's address."""
    stands, successor = state.standing[intent.key_id]
    if stands == "active":
        return
    if stands == "deactivated" and successor:
        heir = address_of(state.reserved[successor].curve, state.public_keys[successor])
        if destination_of(intent) == heir:
            return
    raise Refusal("key_not_active", f"the key is {stands}")


def check_change(state: State, change: KeyStateChange) -> None:
    """Raise Refusal unless the key exists, the way into the new state does, and its successor can take over."""
    key = state.reserved.get(change.key_id)
    if key is None or change.key_id not in state.public_keys:
        raise Refusal("unknown_key", "the key is not one of this org and vault")
    if (key.org, key.vault) != (change.org, change.vault):
        raise Refusal("unknown_key", "the key is not one of this org and vault")
    stands, _ = state.standing[change.key_id]
    if (stands, change.state) not in TRANSITIONS:
        raise Refusal("bad_transition", f"a key that is {stands} cannot become {change.state}")
    if change.successor:
        heir = state.reserved.get(change.successor)
        active = state.standing.get(change.successor, ("", ""))[0] == "active"
        if heir is None or not active or (heir.org, heir.curve) != (key.org, key.curve):
            raise Refusal("bad_successor", "the successor is an active key of the same org and curve")
