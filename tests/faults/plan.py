"""The load that is disturbed: a pure function of a seed, so that a failed run can be asked for again.

Every client has its own list of chains, each sent when the one before it was answered. Chains end each other's holds and reverse
each other's transfers across clients; how that goes depends on who comes first, and is for the verdict to judge.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from custody.assets import service as assets
from custody.db.session import Database
from custody.identity import service as identity
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import TenantId, derived_uuid
from custody.kernel.money import Amount
from custody.ledger import postings, service
from custody.ledger.model import (
    AccountKey,
    AccountKind,
    Command,
    ExpireHold,
    Hold,
    OpenAccount,
    PostHold,
    Reverse,
    Transfer,
    TransferCode,
    VoidHold,
)

XLM = parse_asset_id("stellar:devnet/native")
VAULT = postings.vault_account(derived_uuid("vault"), XLM)
EQUITY = AccountKey(kind=AccountKind.EQUITY, owner=None, asset=XLM)
WALLETS = [postings.wallet_account(derived_uuid("wallet", n), XLM) for n in range(8)]
LIMITED = WALLETS[-1]
"""May be overdrawn a little and must not hold much."""
DUE = datetime(2020, 1, 1, tzinfo=UTC)
"""Holds that may expire have done so long ago: only who comes first decides."""
RECENT = 24
"""How many of the latest holds and transfers are ended or reversed; older ones mostly have been."""

Chain = tuple[Command, ...]


def opening() -> Chain:
    """The chain that every load begins with: all accounts, and money to move."""
    limits: dict[AccountKey, dict[str, int]] = {LIMITED: {"floor": -200, "ceiling": 900}}
    opens = [OpenAccount(key=key, **limits.get(key, {})) for key in (VAULT, EQUITY, *WALLETS)]
    funds = [
        movement(Transfer, derived_uuid("faults", "fund", n), VAULT, key, 600)
        for n, key in enumerate(WALLETS[:-1])
    ]
    return (*opens, *funds)


def movement(
    kind: type[Transfer | Hold],
    command_id: UUID,
    debit: AccountKey,
    credit: AccountKey,
    atomic: int,
    **extra: Any,
) -> Transfer | Hold:
    """Money from one account to another; what it belongs to does not matter here."""
    return kind(
        id=command_id,
        debit=debit,
        credit=credit,
        amount=Amount(XLM, atomic),
        code=TransferCode.WALLET_TRANSFER,
        reference=derived_uuid("reference", command_id),
        **extra,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Who sends what, in which order."""

    seed: int
    clients: tuple[tuple[Chain, ...], ...]
    """By client, its chains in order."""

    def chains(self) -> list[Chain]:
        """All chains, the opening first."""
        return [opening(), *(chain for client in self.clients for chain in client)]


class _Maker:
    """Draws chains one after the other."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.seed, self.made = seed, 0
        self.holds: list[UUID] = []
        self.transfers: list[UUID] = []

    def chain(self) -> Chain:
        if self.chance.random() < 0.15:
            return tuple(self.leg() for _ in range(self.chance.randint(2, 5)))
        makers = [self.transfer] * 6 + [self.hold] * 4 + [self.end] * 5 + [self.reverse] * 2
        return (self.chance.choice(makers)(),)

    def leg(self) -> Command:
        """A member of a longer chain: each may be the one that fails it."""
        return self.chance.choice([self.transfer, self.transfer, self.hold, self.end])()

    def new_id(self) -> UUID:
        self.made += 1
        return derived_uuid("faults", self.seed, self.made)

    def transfer(self) -> Command:
        debit, credit = self.chance.sample([*WALLETS, VAULT, EQUITY], 2)
        made = movement(Transfer, self.new_id(), debit, credit, self.chance.randint(1, 120))
        self.transfers.append(made.id)
        return made

    def hold(self) -> Command:
        debit, credit = self.chance.sample([*WALLETS, VAULT], 2)
        expires = self.chance.choice((None, DUE))
        made = movement(Hold, self.new_id(), debit, credit, self.chance.randint(2, 90), expires_at=expires)
        self.holds.append(made.id)
        return made

    def end(self) -> Command:
        hold_id = self.target(self.holds)
        draw = self.chance.random()
        if draw < 0.2:
            return VoidHold(id=self.new_id(), hold_id=hold_id)
        if draw < 0.4:
            return ExpireHold(id=self.new_id(), hold_id=hold_id, as_of=DUE)
        part = self.chance.choice((None, Amount(XLM, self.chance.randint(1, 40))))
        final = self.chance.random() < 0.3
        made = PostHold(id=self.new_id(), hold_id=hold_id, amount=part, final=final)
        self.transfers.append(made.id)
        return made

    def reverse(self) -> Command:
        return Reverse(id=self.new_id(), transfer_id=self.target(self.transfers))

    def target(self, ids: Sequence[UUID]) -> UUID:
        return self.chance.choice(ids[-RECENT:]) if ids else derived_uuid("nobody")


def draw_plan(seed: int, clients: int, length: int) -> Plan:
    """`clients` lists of `length` chains, drawn in turns: chains about the same things are sent at about the same time."""
    maker = _Maker(seed)
    lists: list[list[Chain]] = [[] for _ in range(clients)]
    for _ in range(length):
        for one in lists:
            one.append(maker.chain())
    return Plan(seed=seed, clients=tuple(tuple(one) for one in lists))


async def prepare(database: Database, name: str) -> TenantId:
    """A fresh tenant with the opening booked."""
    async with database.unit_of_work(None) as uow:
        await assets.register(uow, XLM, "XLM", 7)
        tenant = await identity.create_tenant(uow, name)
    async with database.unit_of_work(tenant) as uow:
        await service.post(uow, *opening())
    return tenant
