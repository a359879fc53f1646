"""set_options and manage_data: how an account is governed and what it says about itself."""

from dataclasses import replace

from stellar_sdk import xdr

from devnet.stellar.apply.context import OpContext, SubentryRefusal, add_subentry, drop_subentry
from devnet.stellar.entries import (
    AUTH_CLAWBACK,
    AUTH_IMMUTABLE,
    AUTH_REQUIRED,
    AUTH_REVOCABLE,
    Account,
    DataEntry,
    raw_account,
)
from devnet.stellar.results import OpCode, inner, outer
from devnet.stellar.signatures import ed25519_signer_key, signer_is_supported
from devnet.stellar.state import DataKey

OPTIONS, DATA = xdr.OperationType.SET_OPTIONS, xdr.OperationType.MANAGE_DATA
_Set, _Data = xdr.SetOptionsResultCode, xdr.ManageDataResultCode
_ALL_FLAGS = AUTH_REQUIRED | AUTH_REVOCABLE | AUTH_IMMUTABLE | AUTH_CLAWBACK
MAX_SIGNERS = 20


def governs_signing(body: xdr.OperationBody) -> bool:
    """True when set_options touches weights, thresholds or signers and so needs the high threshold."""
    op = body.set_options_op
    if op is None:
        return False
    fields = (op.master_weight, op.low_threshold, op.med_threshold, op.high_threshold, op.signer)
    return any(field is not None for field in fields)


def check_options(body: xdr.OperationBody, source: bytes) -> xdr.OperationResult | None:
    op = body.set_options_op
    if op is None:
        return inner(OPTIONS, _Set.SET_OPTIONS_BAD_FLAGS)
    if op.signer is not None and not signer_is_supported(op.signer.key):
        return outer(OpCode.opNOT_SUPPORTED)
    code = _options_fault(op, source)
    return None if code is None else inner(OPTIONS, code)


def _options_fault(op: xdr.SetOptionsOp, source: bytes) -> xdr.SetOptionsResultCode | None:
    to_set = 0 if op.set_flags is None else op.set_flags.uint32
    to_clear = 0 if op.clear_flags is None else op.clear_flags.uint32
    if (to_set | to_clear) & ~_ALL_FLAGS:
        return _Set.SET_OPTIONS_UNKNOWN_FLAG
    if to_set & to_clear:
        return _Set.SET_OPTIONS_BAD_FLAGS
    levels = (op.master_weight, op.low_threshold, op.med_threshold, op.high_threshold)
    if any(level is not None and level.uint32 > 255 for level in levels):
        return _Set.SET_OPTIONS_THRESHOLD_OUT_OF_RANGE
    if op.signer is not None:
        own = op.signer.key.to_xdr_bytes() == ed25519_signer_key(source)
        if own or op.signer.weight.uint32 > 255:
            return _Set.SET_OPTIONS_BAD_SIGNER
    if op.home_domain is not None and not _printable(op.home_domain.string32):
        return _Set.SET_OPTIONS_INVALID_HOME_DOMAIN
    return None


def apply_options(ctx: OpContext) -> xdr.OperationResult:
    op = ctx.body.set_options_op
    if op is None:
        return inner(OPTIONS, _Set.SET_OPTIONS_BAD_FLAGS)
    account = ctx.source_account()
    if op.inflation_dest is not None:
        inflation = raw_account(op.inflation_dest)
        if ctx.layer.account(inflation) is None:
            return inner(OPTIONS, _Set.SET_OPTIONS_INVALID_INFLATION)
        account = replace(account, inflation_dest=inflation)
    flagged = _with_flags(account, op)
    if not isinstance(flagged, Account):
        return inner(OPTIONS, flagged)
    account = _with_levels(flagged, op)
    if op.home_domain is not None:
        account = replace(account, home_domain=op.home_domain.string32)
    if op.signer is not None:
        signed = _with_signer(account, op.signer)
        if not isinstance(signed, Account):
            return signed
        account = signed
    ctx.layer.put(account)
    return inner(OPTIONS, _Set.SET_OPTIONS_SUCCESS)


def _with_flags(account: Account, op: xdr.SetOptionsOp) -> Account | xdr.SetOptionsResultCode:
    if op.set_flags is None and op.clear_flags is None:
        return account
    flags = account.flags
    if op.clear_flags is not None:
        flags &= ~op.clear_flags.uint32
    if op.set_flags is not None:
        flags |= op.set_flags.uint32
    if account.flags & AUTH_IMMUTABLE:
        return _Set.SET_OPTIONS_CANT_CHANGE
    if flags & AUTH_CLAWBACK and not flags & AUTH_REVOCABLE:
        return _Set.SET_OPTIONS_AUTH_REVOCABLE_REQUIRED
    return replace(account, flags=flags)


def _with_levels(account: Account, op: xdr.SetOptionsOp) -> Account:
    asked = (op.master_weight, op.low_threshold, op.med_threshold, op.high_threshold)
    master, low, medium, high = (
        now if new is None else new.uint32 for now, new in zip(account.thresholds, asked, strict=True)
    )
    return replace(account, thresholds=(master, low, medium, high))


def _with_signer(account: Account, signer: xdr.Signer) -> Account | xdr.OperationResult:
    """Weight zero removes; a known key changes its weight; a new one costs a subentry."""
    key, weight = signer.key.to_xdr_bytes(), signer.weight.uint32
    signers = dict(account.signers)
    if weight == 0:
        if signers.pop(key, None) is None:
            return account
        return replace(drop_subentry(account), signers=tuple(sorted(signers.items())))
    if key not in signers:
        if len(signers) >= MAX_SIGNERS:
            return inner(OPTIONS, _Set.SET_OPTIONS_TOO_MANY_SIGNERS)
        grown = add_subentry(account)
        if grown == SubentryRefusal.TOO_MANY:
            return outer(OpCode.opTOO_MANY_SUBENTRIES)
        if not isinstance(grown, Account):
            return inner(OPTIONS, _Set.SET_OPTIONS_LOW_RESERVE)
        account = grown
    signers[key] = weight
    return replace(account, signers=tuple(sorted(signers.items())))


def check_data(body: xdr.OperationBody, source: bytes) -> xdr.OperationResult | None:  # noqa: ARG001 - handler shape
    op = body.manage_data_op
    if op is None or not op.data_name.string64 or not _printable(op.data_name.string64):
        return inner(DATA, _Data.MANAGE_DATA_INVALID_NAME)
    return None


def apply_data(ctx: OpContext) -> xdr.OperationResult:
    op = ctx.body.manage_data_op
    if op is None:
        return inner(DATA, _Data.MANAGE_DATA_INVALID_NAME)
    name, known = op.data_name.string64, ctx.layer.data(ctx.source, op.data_name.string64)
    if op.data_value is None:
        if known is None:
            return inner(DATA, _Data.MANAGE_DATA_NAME_NOT_FOUND)
        ctx.layer.remove(DataKey(ctx.source, name))
        ctx.layer.put(drop_subentry(ctx.source_account()))
        return inner(DATA, _Data.MANAGE_DATA_SUCCESS)
    if known is None:
        grown = add_subentry(ctx.source_account())
        if grown == SubentryRefusal.TOO_MANY:
            return outer(OpCode.opTOO_MANY_SUBENTRIES)
        if not isinstance(grown, Account):
            return inner(DATA, _Data.MANAGE_DATA_LOW_RESERVE)
        ctx.layer.put(grown)
    ctx.layer.put(DataEntry(account=ctx.source, name=name, value=op.data_value.data_value))
    return inner(DATA, _Data.MANAGE_DATA_SUCCESS)


def _printable(raw: bytes) -> bool:
    """Core's rule for names and domains: ASCII without control characters."""
    return all(32 <= byte < 127 for byte in raw)
