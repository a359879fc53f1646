"""A switch: something was stopped, by whom and why, and perhaps goes on again. What can be stopped, and how it is named."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID

from custody.kernel.assetid import AssetId
from custody.kernel.ids import CustomerId, VaultId, parse_id, show_id
from custody.switches.errors import BadSwitchReason

REASON_MAX = 200
"""Longest reason in characters."""
State = Literal["stopped", "resume_proposed", "resumed"]


class Scope(StrEnum):
    """What a switch can stop."""

    CHAIN = "chain"
    """All that leaves by one chain."""
    ASSET = "asset"
    """One asset: by chain, by rail, and inside the books."""
    VAULT = "vault"
    """One vault: nothing leaves it."""
    CUSTOMER = "customer"
    """All that leaves the wallets of one customer."""
    RAIL = "rail"
    """All payouts over one rail."""


_PREFIX = {Scope.VAULT: "vlt", Scope.CUSTOMER: "cus"}
"""Subjects that are ids."""


@dataclass(frozen=True, slots=True)
class Place:
    """One thing that can be stopped."""

    scope: Scope
    subject: str
    """Chain or asset as we write them, the UUID of a vault or customer, or the rail's name."""

    @property
    def shown(self) -> str:
        """The subject as people and interfaces write it."""
        prefix = _PREFIX.get(self.scope)
        return self.subject if prefix is None else show_id(prefix, UUID(self.subject))


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """One stop, and what came of it."""

    id: UUID
    place: Place
    reason: str
    stopped_by: str
    """Subject of the principal."""
    stopped_at: datetime
    proposed_by: str | None
    """Who proposed that it goes on; None while nobody has."""
    proposed_at: datetime | None
    resumed_by: str | None
    """Who confirmed it, always somebody else; None while it stands."""
    resumed_at: datetime | None

    @property
    def state(self) -> State:
        """Where it stands; it stops in all states but the last."""
        if self.resumed_by is not None:
            return "resumed"
        return "stopped" if self.proposed_by is None else "resume_proposed"


def of_asset(asset: AssetId) -> tuple[Place, ...]:
    """What stops an asset: its own switch, or its chain's."""
    return (Place(Scope.CHAIN, asset.chain), Place(Scope.ASSET, asset.text))


def of_vault(vault_id: VaultId) -> Place:
    """A vault as a place."""
    return Place(Scope.VAULT, str(vault_id))


def of_customer(customer_id: CustomerId) -> Place:
    """A customer as a place."""
    return Place(Scope.CUSTOMER, str(customer_id))


def parse_place(scope: Scope, text: str) -> Place:
    """A place whose subject is spelled as `Place.shown` spells it. Raises MalformedId."""
    prefix = _PREFIX.get(scope)
    return Place(scope, text if prefix is None else str(parse_id(prefix, text)))


def parse_reason(text: str) -> str:
    """A reason for the record. Raises BadSwitchReason."""
    if not text.strip() or len(text) > REASON_MAX or not text.isprintable():
        raise BadSwitchReason
    return text
