"""payment: native and credit, with the issuer's mints and burns."""

from types import MappingProxyType

from stellar_sdk import xdr

from devnet.stellar.apply.context import OpContext, Refusal, credit, debit
from devnet.stellar.entries import asset_from_xdr, asset_is_well_formed
from devnet.stellar.envelope import muxed_raw
from devnet.stellar.events import Holder, destination_tag
from devnet.stellar.results import inner

PAYMENT = xdr.OperationType.PAYMENT
_Code = xdr.PaymentResultCode

_CREDIT_CODES = MappingProxyType(
    {
        Refusal.NO_ACCOUNT: _Code.PAYMENT_NO_DESTINATION,
        Refusal.NO_LINE: _Code.PAYMENT_NO_TRUST,
        Refusal.NOT_AUTHORIZED: _Code.PAYMENT_NOT_AUTHORIZED,
        Refusal.FULL: _Code.PAYMENT_LINE_FULL,
        Refusal.UNDERFUNDED: _Code.PAYMENT_UNDERFUNDED,
    }
)
_DEBIT_CODES = MappingProxyType(
    {
        Refusal.NO_ACCOUNT: _Code.PAYMENT_UNDERFUNDED,
        Refusal.NO_LINE: _Code.PAYMENT_SRC_NO_TRUST,
        Refusal.NOT_AUTHORIZED: _Code.PAYMENT_SRC_NOT_AUTHORIZED,
        Refusal.FULL: _Code.PAYMENT_UNDERFUNDED,
        Refusal.UNDERFUNDED: _Code.PAYMENT_UNDERFUNDED,
    }
)


def check_payment(body: xdr.OperationBody, source: bytes) -> xdr.OperationResult | None:  # noqa: ARG001 - handler shape
    op = body.payment_op
    if op is None or op.amount.int64 <= 0 or not asset_is_well_formed(op.asset):
        return inner(PAYMENT, _Code.PAYMENT_MALFORMED)
    return None


def apply_payment(ctx: OpContext) -> xdr.OperationResult:
    """The destination is checked and credited before the source, so its refusals come first, as in core."""
    op = ctx.body.payment_op
    if op is None:
        return inner(PAYMENT, _Code.PAYMENT_MALFORMED)
    asset, amount = asset_from_xdr(op.asset), op.amount.int64
    source, target = ctx.source, muxed_raw(op.destination)
    if not (asset.is_native and source == target):
        # An issuer may be gone and still be paid: credit can always be sent back to where it came from.
        if target != asset.issuer and ctx.layer.account(target) is None:
            return inner(PAYMENT, _Code.PAYMENT_NO_DESTINATION)
        refused = credit(ctx.layer, target, asset, amount)
        if refused is not None:
            return inner(PAYMENT, _CREDIT_CODES[refused])
        refused = debit(ctx.layer, source, asset, amount)
        if refused is not None:
            return inner(PAYMENT, _DEBIT_CODES[refused])
    tag = destination_tag(op.destination, ctx.memo)
    ctx.log.moved(asset, Holder(source), Holder(target), amount, tag)
    return inner(PAYMENT, _Code.PAYMENT_SUCCESS)
