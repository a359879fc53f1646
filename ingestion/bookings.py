"""What the transactions of one block did to our holdings, on chain and in our books, side by side. Pure.

The chain's side is what was proved: movements, departures and fees. The books' side is what `custody` said it will book of them
once the block is final. Where the two differ, the movement is the first that a difference of balances can be blamed on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from custody.deposits.model import Booking, Deposit, Observation
from custody.holdings.model import LateBooking, MovementEffect, TouchedHolding, TransactionEffect
from custody.kernel.assetid import AssetId, ChainId, native
from custody.kernel.ids import VaultId
from custody.wallets.model import VaultRef
from custody.withdrawals.model import PAYING, Ending, Taken
from ingestion.model import BlockFacts, ChainTransaction, Movement

_BOOKED = frozenset((Observation.RECORDED, Observation.KNOWN))
"""Arrivals that are credited or suspended once their block is final."""
_POSTED = frozenset(("credited", "suspended"))
"""States of deposits of which the ledger holds a posting."""
_DEPARTURE, _FEE = "departure", "fee"
"""Names of movements: `holdings.model.MovementEffect`."""
_Side = dict[tuple[VaultId, AssetId], dict[tuple[str, str], int]]
"""Of each holding the amounts by transaction and movement."""


class Bookings:
    """Gathers the effects of a block's transactions on the vaults of one tenant."""

    def __init__(self, chain: ChainId, facts: BlockFacts, ours: Mapping[str, VaultRef]) -> None:
        """Takes the chain's side from the facts."""
        self._native = native(chain)
        self._facts = facts
        self._ours = ours
        self._chain: _Side = {}
        self._books: _Side = {}
        for moved in facts.movements:
            self._add(self._chain, moved.account, moved.asset, (moved.tx_hash, _arrival(moved)), moved.amount)
        for gone in facts.departures:
            self._add(self._chain, gone.account, gone.asset, (gone.tx_hash, _DEPARTURE), -gone.amount)
        for sent in facts.transactions:
            self._add(self._chain, sent.account, self._native, (sent.carrier_hash, _FEE), -sent.fee_atomic)

    def arrived(self, moved: Movement, outcome: Observation) -> None:
        """What became of an arrival."""
        if outcome in _BOOKED:
            self._add(self._books, moved.account, moved.asset, (moved.tx_hash, _arrival(moved)), moved.amount)

    def sent(self, seen: ChainTransaction, taken: Taken | None) -> None:
        """A transaction of ours: its fee is booked in any case, and what its withdrawal takes."""
        self._add(self._books, seen.account, self._native, (seen.carrier_hash, _FEE), -seen.fee_atomic)
        if taken is not None:
            of_vault = self._books.setdefault((taken.vault_id, taken.amount.asset), {})
            moved = (seen.carrier_hash, _DEPARTURE)
            of_vault[moved] = of_vault.get(moved, 0) - taken.amount.atomic

    def touched(self) -> list[TouchedHolding]:
        """The holdings that the block touched, by its own entries, each with its transactions' effects."""
        return [
            TouchedHolding(
                vault_id=self._ours[state.account].vault_id,
                state=state,
                effects=self._effects((self._ours[state.account].vault_id, state.asset)),
            )
            for state in self._facts.state.holdings
            if state.account in self._ours
        ]

    def _effects(self, key: tuple[VaultId, AssetId]) -> tuple[TransactionEffect, ...]:
        on_chain, booked = self._chain.get(key, {}), self._books.get(key, {})
        within: dict[str, list[MovementEffect]] = {}
        for name in dict.fromkeys((*on_chain, *booked)):
            moved = MovementEffect(movement=name[1], chain=on_chain.get(name, 0), books=booked.get(name, 0))
            within.setdefault(name[0], []).append(moved)
        return tuple(
            TransactionEffect(
                tx_hash=tx_hash,
                chain=sum(each.chain for each in moved),
                books=sum(each.books for each in moved),
                movements=tuple(moved),
            )
            for tx_hash, moved in within.items()
        )

    def _add(
        self,
        side: _Side,
        account: str,
        asset: AssetId,
        moved: tuple[str, str],
        amount: int,
    ) -> None:
        ref = self._ours.get(account)
        if ref is not None:
            of_holding = side.setdefault((ref.vault_id, asset), {})
            of_holding[moved] = of_holding.get(moved, 0) + amount


def _arrival(moved: Movement) -> str:
    return f"arrival:{moved.ordinal}"


def waiting_bookings(arrived: Iterable[Deposit]) -> list[LateBooking]:
    """What these deposits bring to vaults, each with the block that holds it."""
    return [
        LateBooking(
            vault_id=each.vault_id,
            asset=each.transfer.asset,
            height=each.transfer.height,
            amount=each.transfer.amount,
        )
        for each in arrived
    ]


def late_bookings(chain: ChainId, booking: Booking, ending: Ending) -> list[LateBooking]:
    """All that a final height books of vaults, each with the block that holds it."""
    found = waiting_bookings(each for each in booking.deposits if each.state in _POSTED)
    for withdrawal, attempt in ending.included:
        height, fee = attempt.height or 0, attempt.fee_paid or 0
        found.append(LateBooking(vault_id=attempt.vault_id, asset=native(chain), height=height, amount=-fee))
        if attempt.succeeded and withdrawal.kind in PAYING:
            found.append(
                LateBooking(
                    vault_id=withdrawal.vault_id,
                    asset=withdrawal.asset,
                    height=height,
                    amount=-withdrawal.amount,
                )
            )
        if attempt.succeeded and withdrawal.into_id is not None:
            found.append(
                LateBooking(
                    vault_id=withdrawal.into_id,
                    asset=withdrawal.asset,
                    height=height,
                    amount=withdrawal.amount,
                )
            )
    found += [
        LateBooking(vault_id=stray.vault_id, asset=native(chain), height=stray.height, amount=-stray.fee_paid)
        for stray in ending.strays
    ]
    return found
