"""Whether chains and books tell one story. Pure: everything that was read is given."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from devnet.checker.model import Books, Chain, Deposit, Payment, Withdrawal
from devnet.checker.stellar import split

PAYING_NOTHING = frozenset({"change_trust", "memo_required", "anchor", "fee_bump", "evm_cancel", "evm_fill"})
"""Kinds of withdrawals that only cost a fee. Every other kind moves its amount."""
PAID = "settled"
UNPAID = frozenset({"rejected", "expired", "cancelled", "blocked", "failed"})
"""States in which a withdrawal has ended without paying."""
ARRIVED = frozenset({"credited", "suspended", "returned"})
GONE = frozenset({"orphaned", "reversed"})


def compare(books: Books, chains: Sequence[Chain]) -> list[str]:
    """One sentence for each thing that is wrong; empty where all is well and nothing is under way."""
    found: list[str] = []
    for chain in chains:
        found += _withdrawals(books, chain)
        found += _deposits(books, chain)
        found += _balances(books, chain)
    found += [f"{asset}: {amount} is still held" for asset, amount in books.held.items() if amount]
    return found


def _withdrawals(books: Books, chain: Chain) -> Iterator[str]:
    """Each one that is settled has exactly its payment; no other has any; and nothing else has left."""
    ours = {_folded(account) for account in books.accounts.get(chain.name, ())}
    left: dict[str, list[Payment]] = defaultdict(list)
    for payment in chain.payments:
        if _folded(payment.source) in ours:
            left[payment.tx_hash].append(payment)
    owners: dict[str, list[str]] = defaultdict(list)
    for each in books.withdrawals:
        if each.asset.partition("/")[0] != chain.name:
            continue
        hashes = [attempt.tx_hash for attempt in each.attempts if attempt.tx_hash is not None]
        for tx_hash in hashes:
            owners[tx_hash].append(each.id)
        yield from _one(each, [payment for tx_hash in hashes for payment in left.get(tx_hash, ())])
    for tx_hash, succeeded in chain.ours.items():
        named = owners.get(tx_hash, [])
        if len(named) > 1:
            yield f"{tx_hash} belongs to {len(named)} withdrawals: {', '.join(named)}"
        if not named:
            what = "paid out of" if left.get(tx_hash) else "used"
            yield f"{tx_hash} {what} our accounts (success: {succeeded}), and no withdrawal knows it"


def _one(each: Withdrawal, paid: list[Payment]) -> Iterator[str]:
    if each.stuck is not None:
        yield f"{each.id} is stuck: {each.stuck}"
    if each.state == PAID and each.kind not in PAYING_NOTHING:
        wanted = _wanted(each)
        if [_seen(payment) for payment in paid] != [wanted]:
            yield f"{each.id} is settled and should have paid {wanted}; on chain: {[_seen(one) for one in paid]}"
    elif paid:
        yield f"{each.id} is {each.state} ({each.kind}), and on chain it paid {[_seen(one) for one in paid]}"
    if each.state != PAID and each.state not in UNPAID:
        yield f"{each.id} has not ended: {each.state}"


def _wanted(each: Withdrawal) -> tuple[str, str, int, str]:
    if not each.asset.startswith("stellar:"):
        return each.asset, each.destination.lower(), each.amount, ""
    account, tag = split(each.destination)
    if each.memo is not None:
        tag = ":".join(each.memo)
    return each.asset, account.lower(), each.amount, tag


def _seen(payment: Payment) -> tuple[str, str, int, str]:
    return payment.asset, _folded(payment.destination), payment.amount, payment.tag


def _deposits(books: Books, chain: Chain) -> Iterator[str]:
    """What strangers sent to our accounts, each once, and to the wallet that it named."""
    ours = {_folded(account) for account in books.accounts.get(chain.name, ())}
    arrived = Counter(
        _arrival(books, payment)
        for payment in chain.payments
        if _folded(payment.destination) in ours and _folded(payment.source) not in ours
    )
    booked = Counter(
        _booking(each)
        for each in books.deposits
        if each.asset.partition("/")[0] == chain.name and each.state in ARRIVED
    )
    for row, count in (arrived - booked).items():
        yield f"arrived on {chain.name} and not booked ({count}x): {row}"
    for row, count in (booked - arrived).items():
        yield f"booked and not on {chain.name} ({count}x): {row}"
    for each in books.deposits:
        if each.asset.partition("/")[0] == chain.name and each.state not in ARRIVED | GONE:
            yield f"{each.id} has not been decided about: {each.state}"


Row = tuple[str, str, str, int, str | None]


def _arrival(books: Books, payment: Payment) -> Row:
    account = payment.destination if payment.asset.startswith("stellar:") else payment.destination.lower()
    wallet = books.addresses.get((account, payment.tag))
    return payment.tx_hash, payment.asset, _folded(account), payment.amount, wallet


def _booking(each: Deposit) -> Row:
    return each.tx_hash, each.asset, _folded(each.account), each.amount, each.wallet


def _balances(books: Books, chain: Chain) -> Iterator[str]:
    """What the accounts hold is what came less what went, and what wallets own less the fees, which are the house's."""
    ours = {_folded(account) for account in books.accounts.get(chain.name, ())}
    on_chain, moved = Counter[str](), Counter[str]()
    for (_, asset), amount in chain.balances.items():
        on_chain[asset] += amount
        moved[asset] += 0
    for payment in chain.payments:
        if _folded(payment.destination) in ours:
            moved[payment.asset] += payment.amount
        if _folded(payment.source) in ours:
            moved[payment.asset] -= payment.amount
    moved[f"{chain.name}/native"] -= chain.fees
    for asset in sorted(on_chain.keys() | moved.keys()):
        if on_chain[asset] != moved[asset]:
            yield f"{asset}: accounts hold {on_chain[asset]}, and {moved[asset]} came and did not go"
        fees = chain.fees if asset == f"{chain.name}/native" else 0
        owned = books.owed.get(asset, 0) + books.in_cases.get(asset, 0)
        if owned - fees != on_chain[asset]:
            yield f"{asset}: wallets own {owned}, fees were {fees}, and accounts hold {on_chain[asset]}"


def _folded(account: str) -> str:
    return account.lower()
