"""Do the balances of our accounts change by what the block says moved? Pure.

For ether the answer finds what shows nowhere else: what a contract sent inside a call where no traces are had, tips of a block,
ether that a rollup mints. What no movement explains becomes one arrival without a source, placed by block and account.
For tokens the answer finds contracts that lie: an arrival is believed only when `balanceOf` agrees with the events. What came
all the same stays among the movements, in doubt: the tenant's rule says whether it is refused or a person is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from custody.kernel.assetid import AssetId, ChainId, native
from ingestion.model import BlockFacts, Departure, Movement, Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What an account held before and after one block, by the chain's state."""

    account: str
    """EIP-55."""
    asset: AssetId
    """Ether or a token."""
    before: int | None
    """Atomic units after the block below; None where the token's contract does not tell."""
    after: int | None
    """Atomic units after the block; None where the token's contract does not tell."""


def questions(chain: ChainId, facts: BlockFacts, named: frozenset[str]) -> list[tuple[str, AssetId]]:
    """Which balances are to be read: ether of every account of ours that the block names, and the tokens that moved for one."""
    touched = [(each.account, each.asset) for each in facts.movements]
    touched += [(each.account, each.asset) for each in facts.departures]
    tokens = {each for each in touched if not each[1].is_native and each[0] in named}
    return [
        *((account, native(chain)) for account in sorted(named)),
        *sorted(tokens, key=lambda each: (each[0], each[1].text)),
    ]


def compare(chain: ChainId, facts: BlockFacts, readings: Iterable[Reading]) -> BlockFacts:
    """The facts with what balances add to them and take from them."""
    moved = _moved(facts, native(chain))
    for reading in readings:
        said = moved.get((reading.account, reading.asset), 0)
        if reading.before is None or reading.after is None:
            facts = _distrust(facts, reading, "token_unreadable", said)
            continue
        changed = reading.after - reading.before
        if not reading.asset.is_native:
            lie = judge_token(said, changed, taken=_taken(facts, reading.account, reading.asset))
            if lie is not None:
                facts = _distrust(facts, reading, lie, said)
        elif changed != said:
            facts = _unattributed(facts, reading.account, reading.asset, changed - said)
    return facts


def judge_token(said: int, changed: int, *, taken: bool) -> str | None:
    """Which lie it is that a balance changed by another amount than the events say; None for no lie. Atomic units, with sign.

    `taken`: an event names a departure in a transaction that we did not send. With it, invented events can cancel each other out.
    """
    if said == changed:
        return "token_departed" if taken else None
    if changed == 0:
        return "token_event_only"
    if said > changed > 0:
        return "token_fee_on_transfer"
    return "token_rebasing"


def balance_place(block_hash: str, account: str) -> str:
    """The place of an arrival that is known by its balance only, in the stead of a transaction's hash."""
    return f"balance:{block_hash}:{account}"


_MONEY_CAME = frozenset(("token_fee_on_transfer", "token_rebasing"))
"""Lies about how much, not about whether."""


def _moved(facts: BlockFacts, ether: AssetId) -> Mapping[tuple[str, AssetId], int]:
    """What the block says that each holding changed by, fees of our own transactions included."""
    moved: dict[tuple[str, AssetId], int] = {}
    changes = [
        *((each.account, each.asset, each.amount) for each in facts.movements),
        *((each.account, each.asset, -each.amount) for each in facts.departures),
    ]
    changes += [(each.account, ether, -each.fee_atomic) for each in facts.transactions]
    for account, asset, amount in changes:
        moved[account, asset] = moved.get((account, asset), 0) + amount
    return moved


def _taken(facts: BlockFacts, account: str, asset: AssetId) -> bool:
    sent = {each.carrier_hash for each in facts.transactions if each.account == account}
    return any(
        (each.account, each.asset) == (account, asset) and each.tx_hash not in sent
        for each in facts.departures
    )


def _unattributed(facts: BlockFacts, account: str, asset: AssetId, rest: int) -> BlockFacts:
    """Ether that no movement explains: an arrival without a source, or a departure that nobody asked for."""
    place = balance_place(facts.ref.hash, account)
    notice = Notice(
        code="unattributed_native" if rest > 0 else "unexplained_native",
        account=account,
        asset=asset.text,
        reported="0",
        found=str(rest),
    )
    facts = replace(facts, notices=(*facts.notices, notice))
    if rest < 0:
        gone = Departure(tx_hash=place, asset=asset, account=account, amount=-rest)
        return replace(facts, departures=(*facts.departures, gone))
    arrival = Movement(
        tx_hash=place, ordinal=0, asset=asset, source="", account=account, tag=None, memo="", amount=rest
    )
    return replace(facts, movements=(*facts.movements, arrival))


def _distrust(facts: BlockFacts, reading: Reading, code: str, said: int) -> BlockFacts:
    """Believe no arrival of this token at this account in this block, and say so."""
    found = "" if reading.before is None or reading.after is None else str(reading.after - reading.before)
    notice = Notice(
        code=code, account=reading.account, asset=reading.asset.text, reported=str(said), found=found
    )
    about = (reading.account, reading.asset)
    gone = facts.departures
    if found == "0":
        gone = tuple(each for each in gone if (each.account, each.asset) != about)
    came = _doubted(facts, reading, code) if code in _MONEY_CAME else ()
    return replace(
        facts,
        movements=(*(each for each in facts.movements if (each.account, each.asset) != about), *came),
        departures=gone,
        notices=(*facts.notices, notice),
    )


def _doubted(facts: BlockFacts, reading: Reading, code: str) -> tuple[Movement, ...]:
    """What the account has more of a token than its events explain, as one arrival in doubt; nothing where events name departures
    that are not ours. It keeps the place and the source of a single event, so that it is the same after a reorganisation."""
    account, asset = reading.account, reading.asset
    if reading.before is None or reading.after is None or _taken(facts, account, asset):
        return ()
    about = (account, asset)
    sent = sum(each.amount for each in facts.departures if (each.account, each.asset) == about)
    amount = reading.after - reading.before + sent
    said = [each for each in facts.movements if (each.account, each.asset) == about]
    if amount <= 0:
        return ()
    if len(said) == 1:
        return (replace(said[0], amount=amount, doubt=code),)
    place = f"{balance_place(facts.ref.hash, account)}:{asset.reference.partition(':')[2]}"
    return (
        Movement(
            tx_hash=place,
            ordinal=0,
            asset=asset,
            source="",
            account=account,
            tag=None,
            memo="",
            amount=amount,
            doubt=code,
        ),
    )
