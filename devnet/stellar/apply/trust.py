"""change_trust, set_trust_line_flags and clawback: the lines between holders and an issuer."""

from dataclasses import replace

from stellar_sdk import xdr

from devnet.stellar.apply.context import OpContext, SubentryRefusal, add_subentry, drop_subentry
from devnet.stellar.entries import (
    AUTH_CLAWBACK,
    AUTH_REQUIRED,
    AUTH_REVOCABLE,
    LINE_AUTHORIZED,
    LINE_CLAWBACK,
    LINE_MAINTAIN,
    Account,
    AssetRef,
    TrustLine,
    asset_from_xdr,
    asset_is_well_formed,
    raw_account,
)
from devnet.stellar.envelope import muxed_raw
from devnet.stellar.events import Holder
from devnet.stellar.results import OpCode, inner, outer
from devnet.stellar.state import TrustKey

CHANGE, FLAGS, CLAWBACK = (
    xdr.OperationType.CHANGE_TRUST,
    xdr.OperationType.SET_TRUST_LINE_FLAGS,
    xdr.OperationType.CLAWBACK,
)
_Change, _Flags, _Claw = (
    xdr.ChangeTrustResultCode,
    xdr.SetTrustLineFlagsResultCode,
    xdr.ClawbackResultCode,
)
_AUTH_BITS = LINE_AUTHORIZED | LINE_MAINTAIN


def check_change(body: xdr.OperationBody, source: bytes) -> xdr.OperationResult | None:
    op = body.change_trust_op
    if op is None:
        return inner(CHANGE, _Change.CHANGE_TRUST_MALFORMED)
    if op.line.type == xdr.AssetType.ASSET_TYPE_POOL_SHARE:
        return outer(OpCode.opNOT_SUPPORTED)
    if op.line.type == xdr.AssetType.ASSET_TYPE_NATIVE or op.limit.int64 < 0:
        return inner(CHANGE, _Change.CHANGE_TRUST_MALFORMED)
    if not asset_is_well_formed(op.line) or asset_from_xdr(op.line).issuer == source:
        return inner(CHANGE, _Change.CHANGE_TRUST_MALFORMED)
    return None


def apply_change(ctx: OpContext) -> xdr.OperationResult:
    op = ctx.body.change_trust_op
    if op is None:
        return inner(CHANGE, _Change.CHANGE_TRUST_MALFORMED)
    asset, limit = asset_from_xdr(op.line), op.limit.int64
    line = ctx.layer.trustline(ctx.source, asset)
    if line is None:
        return _open_line(ctx, asset, limit)
    if limit < line.balance:
        return inner(CHANGE, _Change.CHANGE_TRUST_INVALID_LIMIT)
    if limit == 0:
        ctx.layer.remove(TrustKey(ctx.source, asset))
        ctx.layer.put(drop_subentry(ctx.source_account()))
        return inner(CHANGE, _Change.CHANGE_TRUST_SUCCESS)
    if _issuer(ctx, asset) is None:
        return inner(CHANGE, _Change.CHANGE_TRUST_NO_ISSUER)
    ctx.layer.put(replace(line, limit=limit))
    return inner(CHANGE, _Change.CHANGE_TRUST_SUCCESS)


def _open_line(ctx: OpContext, asset: AssetRef, limit: int) -> xdr.OperationResult:
    if limit == 0:
        return inner(CHANGE, _Change.CHANGE_TRUST_INVALID_LIMIT)
    issuer = _issuer(ctx, asset)
    if issuer is None:
        return inner(CHANGE, _Change.CHANGE_TRUST_NO_ISSUER)
    owner = add_subentry(ctx.source_account())
    if owner == SubentryRefusal.TOO_MANY:
        return outer(OpCode.opTOO_MANY_SUBENTRIES)
    if not isinstance(owner, Account):
        return inner(CHANGE, _Change.CHANGE_TRUST_LOW_RESERVE)
    flags = 0 if issuer.flags & AUTH_REQUIRED else LINE_AUTHORIZED
    flags |= LINE_CLAWBACK if issuer.flags & AUTH_CLAWBACK else 0
    ctx.layer.put(TrustLine(account=ctx.source, asset=asset, balance=0, limit=limit, flags=flags))
    ctx.layer.put(owner)
    return inner(CHANGE, _Change.CHANGE_TRUST_SUCCESS)


def _issuer(ctx: OpContext, asset: AssetRef) -> Account | None:
    return None if asset.issuer is None else ctx.layer.account(asset.issuer)


def check_flags(body: xdr.OperationBody, source: bytes) -> xdr.OperationResult | None:
    """Only the asset's issuer may set flags; clawback can be taken from a line, never given to it."""
    malformed = inner(FLAGS, _Flags.SET_TRUST_LINE_FLAGS_MALFORMED)
    op = body.set_trust_line_flags_op
    if op is None or not asset_is_well_formed(op.asset) or raw_account(op.trustor) == source:
        return malformed
    to_set, to_clear = op.set_flags.uint32, op.clear_flags.uint32
    foreign = asset_from_xdr(op.asset).issuer != source
    unknown = to_set & ~_AUTH_BITS or to_clear & ~(_AUTH_BITS | LINE_CLAWBACK)
    if foreign or unknown or to_set & to_clear or to_set == _AUTH_BITS:
        return malformed
    return None


def apply_flags(ctx: OpContext) -> xdr.OperationResult:
    op = ctx.body.set_trust_line_flags_op
    if op is None:
        return inner(FLAGS, _Flags.SET_TRUST_LINE_FLAGS_MALFORMED)
    asset, trustor = asset_from_xdr(op.asset), raw_account(op.trustor)
    line = ctx.layer.trustline(trustor, asset)
    if line is None:
        return inner(FLAGS, _Flags.SET_TRUST_LINE_FLAGS_NO_TRUST_LINE)
    flags = (line.flags & ~op.clear_flags.uint32) | op.set_flags.uint32
    if flags & _AUTH_BITS == _AUTH_BITS:
        return inner(FLAGS, _Flags.SET_TRUST_LINE_FLAGS_INVALID_STATE)
    if _weakens(line.flags, flags) and not ctx.source_account().flags & AUTH_REVOCABLE:
        return inner(FLAGS, _Flags.SET_TRUST_LINE_FLAGS_CANT_REVOKE)
    changed = replace(line, flags=flags)
    ctx.layer.put(changed)
    if changed.authorized != line.authorized:
        ctx.log.authorized(asset, trustor, now=changed.authorized)
    return inner(FLAGS, _Flags.SET_TRUST_LINE_FLAGS_SUCCESS)


def _weakens(before: int, after: int) -> bool:
    """True when the line loses authority: full to maintain-only, or either to none."""
    rank = {LINE_AUTHORIZED: 2, LINE_MAINTAIN: 1, 0: 0}
    return rank[after & _AUTH_BITS] < rank[before & _AUTH_BITS]


def check_clawback(body: xdr.OperationBody, source: bytes) -> xdr.OperationResult | None:
    op = body.clawback_op
    if op is None or op.amount.int64 < 1 or not asset_is_well_formed(op.asset):
        return inner(CLAWBACK, _Claw.CLAWBACK_MALFORMED)
    if muxed_raw(op.from_) == source or asset_from_xdr(op.asset).issuer != source:
        return inner(CLAWBACK, _Claw.CLAWBACK_MALFORMED)
    return None


def apply_clawback(ctx: OpContext) -> xdr.OperationResult:
    op = ctx.body.clawback_op
    if op is None:
        return inner(CLAWBACK, _Claw.CLAWBACK_MALFORMED)
    asset, holder, amount = asset_from_xdr(op.asset), muxed_raw(op.from_), op.amount.int64
    line = ctx.layer.trustline(holder, asset)
    if line is None:
        return inner(CLAWBACK, _Claw.CLAWBACK_NO_TRUST)
    if not line.flags & LINE_CLAWBACK:
        return inner(CLAWBACK, _Claw.CLAWBACK_NOT_CLAWBACK_ENABLED)
    if line.balance < amount:
        return inner(CLAWBACK, _Claw.CLAWBACK_UNDERFUNDED)
    ctx.layer.put(replace(line, balance=line.balance - amount))
    ctx.log.clawed_back(asset, Holder(holder), amount)
    return inner(CLAWBACK, _Claw.CLAWBACK_SUCCESS)
