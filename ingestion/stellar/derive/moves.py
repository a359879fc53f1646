"""What one operation moved, before it has the form of an event. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stellar_sdk import xdr

from custody.chains.stellar.memo import words_of
from ingestion.stellar.entries import REMOVED, STATE, Change, Holding
from ingestion.stellar.holders import account_name, asset_name, claimable_name, pool_name
from ingestion.stellar.senders import Sender, name_account


@dataclass(frozen=True, slots=True)
class Move:
    """Money that went from one holder to another in one step."""

    asset: str
    source: str
    """Empty for lumens that began."""
    destination: str
    """Empty for what an issuer claws back, and for lumens that ended."""
    amount: int
    tag: int | None = None
    """Muxed id or id memo of the destination."""
    memo: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """One operation that succeeded: what was asked, what came of it, and whose it was."""

    number: int
    """Its place in the transaction, from 1."""
    body: xdr.OperationBody
    result: xdr.OperationResultTr
    source: str
    """Who acts: the operation's own source, or the transaction's."""
    sender: Sender
    """The transaction that it belongs to."""
    changes: Sequence[Change]
    """Of the entries that hold classic money, in order."""

    def gains(self, entry: bytes) -> dict[Holding, int]:
        """By how much the entry's holdings grew, each of them named even when it stayed the same."""
        before: dict[Holding, int] = {}
        gained: dict[Holding, int] = {}
        for change in self.changes:
            if change.entry != entry:
                continue
            if change.kind != STATE:
                for key in before.keys() | change.amounts.keys():
                    gained[key] = gained.get(key, 0) + change.amounts.get(key, 0) - before.get(key, 0)
            else:
                gained |= {key: gained.get(key, 0) for key in change.amounts}
            before = change.amounts
        order = [key for change in self.changes if change.entry == entry for key in change.amounts]
        return {key: gained[key] for key in dict.fromkeys(order)}

    def lost(self, prefix: bytes) -> Iterator[tuple[bytes, Holding, int]]:
        """Entries of this kind that were there and are gone, with what they held."""
        before: dict[bytes, dict[Holding, int]] = {}
        for change in self.changes:
            if change.kind == REMOVED and change.entry.startswith(prefix):
                for key, amount in before.get(change.entry, {}).items():
                    yield change.entry, key, amount
            before[change.entry] = change.amounts

    def to_account(self, asset: str, destination: xdr.MuxedAccount, amount: int) -> Move:
        """A move to an account that the sender named: its muxed id counts, else the transaction's memo. Source: CAP-67."""
        tag, memo = tag_and_memo(destination, self.sender.memo)
        return Move(asset, self.source, name_account(destination), amount, tag, memo)


def tag_and_memo(destination: xdr.MuxedAccount, memo: xdr.Memo) -> tuple[int | None, str]:
    """Whom within the account the money is for."""
    if destination.med25519 is not None:
        return destination.med25519.id.uint64, ""
    if memo.id is not None:
        return memo.id.uint64, ""
    if memo.text is not None:
        return None, words_of("text", memo.text)
    digest = memo.hash or memo.ret_hash
    return (None, "") if digest is None else (None, words_of("hash", digest.hash))


def name_account_id(account: xdr.AccountID) -> str:
    """The G address of an account id."""
    key = account.account_id.ed25519
    return "" if key is None else account_name(key.uint256)


def name_asset(asset: xdr.Asset) -> str:
    """The SEP-11 name of an asset."""
    return asset_name(asset.to_xdr_bytes())


def name_claimable(balance: xdr.ClaimableBalanceID) -> str:
    """The B address of a claimable balance."""
    return "" if balance.v0 is None else claimable_name(balance.v0.hash)


def trades(taker: str, atoms: Sequence[xdr.ClaimAtom]) -> Iterator[Move]:
    """Both legs of each trade: first what the taker pays, then what it gets, which is core's order."""
    for atom in atoms:
        claimed = atom.liquidity_pool or atom.order_book or atom.v0
        if claimed is None:
            continue
        maker = _maker(claimed)
        paid, got = name_asset(claimed.asset_bought), name_asset(claimed.asset_sold)
        yield Move(paid, taker, maker, claimed.amount_bought.int64)
        yield Move(got, maker, taker, claimed.amount_sold.int64)


def _maker(claimed: xdr.ClaimLiquidityAtom | xdr.ClaimOfferAtom | xdr.ClaimOfferAtomV0) -> str:
    if isinstance(claimed, xdr.ClaimLiquidityAtom):
        return pool_name(claimed.liquidity_pool_id.pool_id.hash)
    if isinstance(claimed, xdr.ClaimOfferAtom):
        return name_account_id(claimed.seller_id)
    return account_name(claimed.seller_ed25519.uint256)
