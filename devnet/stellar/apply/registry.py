"""The operations this network applies. Whatever is not in the table is refused at submission."""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from stellar_sdk import xdr

from devnet.stellar.apply import accounts, balances, options, payments, trust
from devnet.stellar.apply.context import OpContext
from devnet.stellar.signatures import HIGH, LOW, MEDIUM

Kind = xdr.OperationType


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """How one kind of operation is checked without state, applied, and how much authority it needs."""

    check: Callable[[xdr.OperationBody, bytes], xdr.OperationResult | None]
    """The failure, or None. Takes the operation's body and its source account."""
    apply: Callable[[OpContext], xdr.OperationResult]
    level: int = MEDIUM


OPERATIONS: MappingProxyType[xdr.OperationType, Operation] = MappingProxyType(
    {
        Kind.CREATE_ACCOUNT: Operation(check=accounts.check_create, apply=accounts.apply_create),
        Kind.PAYMENT: Operation(check=payments.check_payment, apply=payments.apply_payment),
        Kind.SET_OPTIONS: Operation(check=options.check_options, apply=options.apply_options),
        Kind.CHANGE_TRUST: Operation(check=trust.check_change, apply=trust.apply_change),
        Kind.ACCOUNT_MERGE: Operation(check=accounts.check_merge, apply=accounts.apply_merge, level=HIGH),
        Kind.MANAGE_DATA: Operation(check=options.check_data, apply=options.apply_data),
        Kind.BUMP_SEQUENCE: Operation(check=accounts.check_bump, apply=accounts.apply_bump, level=LOW),
        Kind.CREATE_CLAIMABLE_BALANCE: Operation(check=balances.check_create, apply=balances.apply_create),
        Kind.CLAIM_CLAIMABLE_BALANCE: Operation(
            check=balances.check_claim, apply=balances.apply_claim, level=LOW
        ),
        Kind.CLAWBACK: Operation(check=trust.check_clawback, apply=trust.apply_clawback),
        Kind.CLAWBACK_CLAIMABLE_BALANCE: Operation(
            check=balances.check_clawback, apply=balances.apply_clawback
        ),
        Kind.SET_TRUST_LINE_FLAGS: Operation(check=trust.check_flags, apply=trust.apply_flags, level=LOW),
    }
)


def level_of(body: xdr.OperationBody) -> int:
    """The threshold level an operation needs."""
    if options.governs_signing(body):
        return HIGH
    return OPERATIONS[body.type].level
