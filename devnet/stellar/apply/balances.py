"""create_claimable_balance, claim_claimable_balance and clawback_claimable_balance."""

import hashlib
from dataclasses import replace
from types import MappingProxyType

from stellar_sdk import xdr

from devnet.stellar.apply.context import OpContext, Refusal, credit, debit
from devnet.stellar.entries import (
    AUTH_CLAWBACK,
    BASE_RESERVE_STROOPS,
    INT64_MAX,
    LINE_CLAWBACK,
    AssetRef,
    ClaimableBalance,
    account_id_xdr,
    asset_from_xdr,
    asset_is_well_formed,
    balance_id_xdr,
    raw_account,
)
from devnet.stellar.events import Holder, destination_tag
from devnet.stellar.results import inner
from devnet.stellar.state import BalanceKey

CREATE, CLAIM, CLAWBACK = (
    xdr.OperationType.CREATE_CLAIMABLE_BALANCE,
    xdr.OperationType.CLAIM_CLAIMABLE_BALANCE,
    xdr.OperationType.CLAWBACK_CLAIMABLE_BALANCE,
)
_Create, _Claim, _Claw = (
    xdr.CreateClaimableBalanceResultCode,
    xdr.ClaimClaimableBalanceResultCode,
    xdr.ClawbackClaimableBalanceResultCode,
)
_Predicate = xdr.ClaimPredicateType
MAX_PREDICATE_DEPTH = 4

_DEBIT_CODES = MappingProxyType(
    {
        Refusal.NO_ACCOUNT: _Create.CREATE_CLAIMABLE_BALANCE_UNDERFUNDED,
        Refusal.NO_LINE: _Create.CREATE_CLAIMABLE_BALANCE_NO_TRUST,
        Refusal.NOT_AUTHORIZED: _Create.CREATE_CLAIMABLE_BALANCE_NOT_AUTHORIZED,
        Refusal.UNDERFUNDED: _Create.CREATE_CLAIMABLE_BALANCE_UNDERFUNDED,
        Refusal.FULL: _Create.CREATE_CLAIMABLE_BALANCE_UNDERFUNDED,
    }
)
_CREDIT_CODES = MappingProxyType(
    {
        Refusal.NO_ACCOUNT: _Claim.CLAIM_CLAIMABLE_BALANCE_NO_TRUST,
        Refusal.NO_LINE: _Claim.CLAIM_CLAIMABLE_BALANCE_NO_TRUST,
        Refusal.NOT_AUTHORIZED: _Claim.CLAIM_CLAIMABLE_BALANCE_NOT_AUTHORIZED,
        Refusal.UNDERFUNDED: _Claim.CLAIM_CLAIMABLE_BALANCE_LINE_FULL,
        Refusal.FULL: _Claim.CLAIM_CLAIMABLE_BALANCE_LINE_FULL,
    }
)


def check_create(body: xdr.OperationBody, source: bytes) -> xdr.OperationResult | None:  # noqa: ARG001 - handler shape
    malformed = inner(CREATE, _Create.CREATE_CLAIMABLE_BALANCE_MALFORMED)
    op = body.create_claimable_balance_op
    if op is None or op.amount.int64 <= 0 or not asset_is_well_formed(op.asset):
        return malformed
    claimants = [c.v0 for c in op.claimants if c.v0 is not None]
    if not claimants or len({raw_account(c.destination) for c in claimants}) != len(claimants):
        return malformed
    return None if all(_well_formed(c.predicate, 1) for c in claimants) else malformed


def apply_create(ctx: OpContext) -> xdr.OperationResult:
    op = ctx.body.create_claimable_balance_op
    if op is None:
        return inner(CREATE, _Create.CREATE_CLAIMABLE_BALANCE_MALFORMED)
    asset, amount, claimants = asset_from_xdr(op.asset), op.amount.int64, len(op.claimants)
    # The maker pays one reserve per claimant, on top of the amount it sets aside.
    sponsor = ctx.source_account()
    if sponsor.available < claimants * BASE_RESERVE_STROOPS:
        return inner(CREATE, _Create.CREATE_CLAIMABLE_BALANCE_LOW_RESERVE)
    clawback = _clawback_enabled(ctx, asset)
    ctx.layer.put(replace(sponsor, num_sponsoring=sponsor.num_sponsoring + claimants))
    refused = debit(ctx.layer, ctx.source, asset, amount)
    if refused is not None:
        return inner(CREATE, _DEBIT_CODES[refused])
    balance_id = _balance_id(ctx)
    ctx.layer.put(
        ClaimableBalance(
            balance_id=balance_id,
            claimants=tuple(
                (raw_account(c.v0.destination), _absolute(c.v0.predicate, ctx.close_time).to_xdr_bytes())
                for c in op.claimants
                if c.v0 is not None
            ),
            asset=asset,
            amount=amount,
            clawback=clawback,
            sponsor=ctx.source,
        )
    )
    ctx.log.moved(asset, Holder(ctx.source), Holder(balance_id, is_balance=True), amount)
    made = balance_id_xdr(balance_id)
    return inner(CREATE, _Create.CREATE_CLAIMABLE_BALANCE_SUCCESS, balance_id=made)


def _clawback_enabled(ctx: OpContext, asset: AssetRef) -> bool:
    if asset.issuer == ctx.source:
        return bool(ctx.source_account().flags & AUTH_CLAWBACK)
    line = None if asset.is_native else ctx.layer.trustline(ctx.source, asset)
    return line is not None and bool(line.flags & LINE_CLAWBACK)


def _balance_id(ctx: OpContext) -> bytes:
    """sha256 of the OP_ID preimage: the transaction's source and sequence, and the operation's index."""
    preimage = xdr.HashIDPreimage(
        xdr.EnvelopeType.ENVELOPE_TYPE_OP_ID,
        operation_id=xdr.HashIDPreimageOperationID(
            account_id_xdr(ctx.frame.source), ctx.frame.tx.seq_num, xdr.Uint32(ctx.index)
        ),
    )
    return hashlib.sha256(preimage.to_xdr_bytes()).digest()


def check_claim(body: xdr.OperationBody, source: bytes) -> xdr.OperationResult | None:  # noqa: ARG001 - handler shape
    op = body.claim_claimable_balance_op
    if op is None or op.balance_id.v0 is None:
        return inner(CLAIM, _Claim.CLAIM_CLAIMABLE_BALANCE_DOES_NOT_EXIST)
    return None


def apply_claim(ctx: OpContext) -> xdr.OperationResult:
    op = ctx.body.claim_claimable_balance_op
    found = None
    if op is not None and op.balance_id.v0 is not None:
        found = ctx.layer.claimable(op.balance_id.v0.hash)
    if found is None:
        return inner(CLAIM, _Claim.CLAIM_CLAIMABLE_BALANCE_DOES_NOT_EXIST)
    predicate = dict(found.claimants).get(ctx.source)
    if predicate is None or not _holds(xdr.ClaimPredicate.from_xdr_bytes(predicate), ctx.close_time):
        return inner(CLAIM, _Claim.CLAIM_CLAIMABLE_BALANCE_CANNOT_CLAIM)
    refused = credit(ctx.layer, ctx.source, found.asset, found.amount)
    if refused is not None:
        return inner(CLAIM, _CREDIT_CODES[refused])
    _remove(ctx, found)
    tag = destination_tag(ctx.muxed_source, ctx.memo)
    ctx.log.moved(
        found.asset, Holder(found.balance_id, is_balance=True), Holder(ctx.source), found.amount, tag
    )
    return inner(CLAIM, _Claim.CLAIM_CLAIMABLE_BALANCE_SUCCESS)


def check_clawback(body: xdr.OperationBody, source: bytes) -> xdr.OperationResult | None:  # noqa: ARG001 - handler shape
    op = body.clawback_claimable_balance_op
    if op is None or op.balance_id.v0 is None:
        return inner(CLAWBACK, _Claw.CLAWBACK_CLAIMABLE_BALANCE_DOES_NOT_EXIST)
    return None


def apply_clawback(ctx: OpContext) -> xdr.OperationResult:
    """The issuer takes back what it, or a holder of a clawback-enabled line, set aside."""
    op = ctx.body.clawback_claimable_balance_op
    found = None
    if op is not None and op.balance_id.v0 is not None:
        found = ctx.layer.claimable(op.balance_id.v0.hash)
    if found is None:
        return inner(CLAWBACK, _Claw.CLAWBACK_CLAIMABLE_BALANCE_DOES_NOT_EXIST)
    if found.asset.issuer != ctx.source:
        return inner(CLAWBACK, _Claw.CLAWBACK_CLAIMABLE_BALANCE_NOT_ISSUER)
    if not found.clawback:
        return inner(CLAWBACK, _Claw.CLAWBACK_CLAIMABLE_BALANCE_NOT_CLAWBACK_ENABLED)
    _remove(ctx, found)
    ctx.log.clawed_back(found.asset, Holder(found.balance_id, is_balance=True), found.amount)
    return inner(CLAWBACK, _Claw.CLAWBACK_CLAIMABLE_BALANCE_SUCCESS)


def _remove(ctx: OpContext, found: ClaimableBalance) -> None:
    """Delete the entry and free its maker's reserves.

    Core writes the operation's source as well, changed or not; real metas show it, so ours do.
    """
    ctx.layer.remove(BalanceKey(found.balance_id))
    ctx.layer.put(ctx.source_account())
    sponsor = ctx.layer.account(found.sponsor)
    if sponsor is None:
        raise LookupError("the sponsor of a claimable balance cannot have been merged")
    ctx.layer.put(replace(sponsor, num_sponsoring=sponsor.num_sponsoring - len(found.claimants)))


def _well_formed(predicate: xdr.ClaimPredicate, depth: int) -> bool:
    if depth > MAX_PREDICATE_DEPTH:
        return False
    if predicate.and_predicates is not None or predicate.or_predicates is not None:
        pair = predicate.and_predicates or predicate.or_predicates or []
        return len(pair) == 2 and all(_well_formed(p, depth + 1) for p in pair)
    if predicate.type == _Predicate.CLAIM_PREDICATE_NOT:
        return predicate.not_predicate is not None and _well_formed(predicate.not_predicate, depth + 1)
    limit = predicate.abs_before or predicate.rel_before
    return limit is None or limit.int64 >= 0


def _absolute(predicate: xdr.ClaimPredicate, close_time: int) -> xdr.ClaimPredicate:
    """The predicate with times relative to this ledger's close made absolute, as the entry stores them."""
    if predicate.rel_before is not None:
        before = min(predicate.rel_before.int64 + close_time, INT64_MAX)
        return xdr.ClaimPredicate(
            _Predicate.CLAIM_PREDICATE_BEFORE_ABSOLUTE_TIME, abs_before=xdr.Int64(before)
        )
    if predicate.and_predicates is not None:
        pair = [_absolute(p, close_time) for p in predicate.and_predicates]
        return xdr.ClaimPredicate(predicate.type, and_predicates=pair)
    if predicate.or_predicates is not None:
        pair = [_absolute(p, close_time) for p in predicate.or_predicates]
        return xdr.ClaimPredicate(predicate.type, or_predicates=pair)
    if predicate.not_predicate is not None:
        turned = _absolute(predicate.not_predicate, close_time)
        return xdr.ClaimPredicate(predicate.type, not_predicate=turned)
    return predicate


def _holds(predicate: xdr.ClaimPredicate, close_time: int) -> bool:
    if predicate.and_predicates is not None:
        return all(_holds(p, close_time) for p in predicate.and_predicates)
    if predicate.or_predicates is not None:
        return any(_holds(p, close_time) for p in predicate.or_predicates)
    if predicate.not_predicate is not None:
        return not _holds(predicate.not_predicate, close_time)
    if predicate.abs_before is not None:
        return close_time < predicate.abs_before.int64
    return predicate.type == _Predicate.CLAIM_PREDICATE_UNCONDITIONAL
