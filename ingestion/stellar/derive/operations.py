"""What each kind of operation moves, told from what was asked and what came of it. Pure.

Operations that are not in the table move nothing: offers at rest, options, data, sponsorship, sequence numbers. What contracts
move is told by their events. Source: CAP-67; Stellar-transaction.x.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from stellar_sdk import xdr

from ingestion.stellar.derive.moves import (
    Applied,
    Move,
    name_account_id,
    name_asset,
    name_claimable,
    trades,
)
from ingestion.stellar.derive.pools import pool_deposit, pool_revocation, pool_withdrawal
from ingestion.stellar.holders import NATIVE
from ingestion.stellar.senders import name_account

_Type = xdr.OperationType


def moves_of(applied: Applied) -> list[Move]:
    """What the operation moved, in core's order."""
    told = _MOVES.get(applied.body.type)
    return [] if told is None else list(told(applied))


def moves_before_protocol_8(applied: Applied) -> list[Move]:
    """The same for protocols that could make or lose lumens in an operation: what is over or short is its source's.

    Source: CAP-67, and the token transfer processor of Stellar's Go SDK, which reconciles so.
    """
    moves = moves_of(applied)
    told = sum(
        move.amount * (bool(move.destination) - bool(move.source)) for move in moves if move.asset == NATIVE
    )
    entries = dict.fromkeys(change.entry for change in applied.changes)
    gained = sum(
        amount for entry in entries for (_, asset), amount in applied.gains(entry).items() if asset == NATIVE
    )
    if gained > told:
        return [Move(NATIVE, "", applied.source, gained - told), *moves]
    return [*moves, Move(NATIVE, applied.source, "", told - gained)] if gained < told else moves


def _create_account(applied: Applied) -> Iterator[Move]:
    op = applied.body.create_account_op
    if op is not None:
        # The destination of a new account cannot be muxed; the memo counts all the same.
        destination = xdr.MuxedAccount(
            xdr.CryptoKeyType.KEY_TYPE_ED25519, ed25519=op.destination.account_id.ed25519
        )
        yield applied.to_account(NATIVE, destination, op.starting_balance.int64)


def _payment(applied: Applied) -> Iterator[Move]:
    op = applied.body.payment_op
    if op is not None:
        yield applied.to_account(name_asset(op.asset), op.destination, op.amount.int64)


def _strict_receive(applied: Applied) -> Iterator[Move]:
    op, result = (
        applied.body.path_payment_strict_receive_op,
        applied.result.path_payment_strict_receive_result,
    )
    if op is not None and result is not None and result.success is not None:
        yield from trades(applied.source, result.success.offers)
        yield applied.to_account(name_asset(op.dest_asset), op.destination, op.dest_amount.int64)


def _strict_send(applied: Applied) -> Iterator[Move]:
    op, result = applied.body.path_payment_strict_send_op, applied.result.path_payment_strict_send_result
    if op is not None and result is not None and result.success is not None:
        yield from trades(applied.source, result.success.offers)
        yield applied.to_account(name_asset(op.dest_asset), op.destination, result.success.last.amount.int64)


def _offer(applied: Applied) -> Iterator[Move]:
    # Old protocols answered a passive offer as if it were a plain one: whichever result is there is meant.
    result = (
        applied.result.manage_sell_offer_result
        or applied.result.create_passive_sell_offer_result
        or applied.result.manage_buy_offer_result
    )
    if result is not None and result.success is not None:
        yield from trades(applied.source, result.success.offers_claimed)


def _merge(applied: Applied) -> Iterator[Move]:
    destination, result = applied.body.destination, applied.result.account_merge_result
    if destination is not None and result is not None and result.source_account_balance is not None:
        yield applied.to_account(NATIVE, destination, result.source_account_balance.int64)


def _create_claimable(applied: Applied) -> Iterator[Move]:
    op, result = applied.body.create_claimable_balance_op, applied.result.create_claimable_balance_result
    if op is not None and result is not None and result.balance_id is not None:
        yield Move(name_asset(op.asset), applied.source, name_claimable(result.balance_id), op.amount.int64)


def _claim(applied: Applied) -> Iterator[Move]:
    for _, (balance, asset), amount in applied.lost(b"b"):
        yield Move(asset, balance, applied.source, amount)


def _clawback(applied: Applied) -> Iterator[Move]:
    op = applied.body.clawback_op
    if op is not None:
        yield Move(name_asset(op.asset), name_account(op.from_), "", op.amount.int64)


def _clawback_claimable(applied: Applied) -> Iterator[Move]:
    for _, (balance, asset), amount in applied.lost(b"b"):
        yield Move(asset, balance, "", amount)


def _inflation(applied: Applied) -> Iterator[Move]:
    result = applied.result.inflation_result
    for payout in (result.payouts or []) if result is not None else []:
        yield Move(NATIVE, "", name_account_id(payout.destination), payout.amount.int64)


_MOVES: dict[xdr.OperationType, Callable[[Applied], Iterator[Move]]] = {
    _Type.CREATE_ACCOUNT: _create_account,
    _Type.PAYMENT: _payment,
    _Type.PATH_PAYMENT_STRICT_RECEIVE: _strict_receive,
    _Type.PATH_PAYMENT_STRICT_SEND: _strict_send,
    _Type.MANAGE_SELL_OFFER: _offer,
    _Type.CREATE_PASSIVE_SELL_OFFER: _offer,
    _Type.MANAGE_BUY_OFFER: _offer,
    _Type.ACCOUNT_MERGE: _merge,
    _Type.CREATE_CLAIMABLE_BALANCE: _create_claimable,
    _Type.CLAIM_CLAIMABLE_BALANCE: _claim,
    _Type.CLAWBACK: _clawback,
    _Type.CLAWBACK_CLAIMABLE_BALANCE: _clawback_claimable,
    _Type.ALLOW_TRUST: pool_revocation,
    _Type.SET_TRUST_LINE_FLAGS: pool_revocation,
    _Type.LIQUIDITY_POOL_DEPOSIT: pool_deposit,
    _Type.LIQUIDITY_POOL_WITHDRAW: pool_withdrawal,
    _Type.INFLATION: _inflation,
}
