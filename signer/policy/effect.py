"""What is asked for, in the words that rules speak, whether money moves or a key is made."""

from dataclasses import dataclass

from signer.effects import (
    amount_of,
    asset_of,
    destinations_of,
    fee_cap_of,
    moved_by,
    needs_listed_destination,
    needs_own_rule,
)
from signer.protocol.canonical import kind_of
from signer.protocol.intent import Intent


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """All that a rule may look at."""

    org: str
    vault: str
    key: str
    """Id of the key; "" for one that is yet to be made."""
    chain: str
    """CAIP-2 name; for a key operation the key's curve."""
    kind: str
    asset: str
    destinations: tuple[str, ...]
    """Names under which a rule may list who receives; for a key operation the state that the key is to have."""
    amount: int
    """What caps speak about, in atomic units."""
    moved: int
    """What velocity counts, in atomic units."""
    fee_cap: int
    """Most that the network may take, in the chain's native atomic units."""
    needs_own_rule: bool
    """Whether only a rule that names the kind may allow it, since no amount says what it can do."""
    needs_listed_destination: bool
    """Whether only a rule that lists the destination may allow it: somebody gets power over the account or its money."""


def effect_of(intent: Intent) -> Effect:
    """Return what an intent for a transaction or a message does."""
    return Effect(
        org=intent.org,
        vault=intent.vault,
        key=intent.key_id,
        chain=intent.chain,
        kind=kind_of(intent),
        asset=asset_of(intent),
        destinations=destinations_of(intent),
        amount=amount_of(intent),
        moved=moved_by(intent),
        fee_cap=fee_cap_of(intent),
        needs_own_rule=needs_own_rule(intent),
        needs_listed_destination=needs_listed_destination(intent),
    )
