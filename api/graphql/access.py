"""Which permission each part of the graph needs: the same that REST asks for the same thing.

Permissions belong to types, so that a new way to an old thing is guarded without anybody thinking of it. A type or a root field
that says nothing here keeps the schema from being built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from graphql import GraphQLField, GraphQLObjectType, GraphQLSchema, get_named_type
from graphql.type import GraphQLInterfaceType

from api.graphql.context import Context
from custody.identity import service as identity
from custody.kernel.errors import InvariantViolated

TYPES: Mapping[str, str] = {
    "AddressEntry": "address_book:read",
    "AddressRestriction": "address_book:read",
    "Adjustment": "adjustments:read",
    "Approval": "approvals:read",
    "AuditEvent": "audit:read",
    "BulkTransfer": "transfers:read",
    "Case": "cases:read",
    "Chain": "chains:read",
    "ChainHalt": "chains:read",
    "ChainNotice": "chains:read",
    "Customer": "customers:read",
    "Deposit": "deposits:read",
    "DepositAddress": "wallets:read",
    "Event": "events:read",
    "Holding": "holdings:read",
    "HoldingBreak": "holdings:read",
    "HoldingComparison": "holdings:read",
    "Liabilities": "proofs:read",
    "LiabilityProof": "proofs:read",
    "PastBalance": "wallets:read",
    "Payout": "payouts:read",
    "ReconciliationSeries": "reconciliation:read",
    "StatementLine": "wallets:read",
    "Switch": "switches:read",
    "Transfer": "transfers:read",
    "VaultAccount": "holdings:read",
    "VaultReconciliation": "reconciliation:read",
    "Wallet": "wallets:read",
    "Withdrawal": "withdrawals:read",
    "WithdrawalBatch": "approvals:read",
}
"""Type to what whoever follows a field to it needs; connections and edges are as what they hold."""
PARTS = frozenset(
    {
        "ApprovalNeeded",
        "Arrival",
        "Assertion",
        "Asset",
        "Attempt",
        "Balance",
        "BalanceChanged",
        "BreakMovement",
        "BulkTransferLine",
        "DepositEvent",
        "Money",
        "MutationError",
        "Node",
        "PageInfo",
        "PolicyDemand",
        "PolicyTrace",
        "ReconciliationPoint",
        "Screening",
        "VaultSigner",
        "WithdrawalEvent",
        "WithdrawalFee",
        "WithdrawalQuote",
    }
)
"""Types that are seen by whoever sees what they are part of; a subscription's facts by whoever may subscribe."""
FIELDS: Mapping[str, str] = {
    "Mutation.assignCase": "cases:decide",
    "Mutation.cancelPayout": "payouts:cancel",
    "Mutation.cancelWithdrawal": "withdrawals:cancel",
    "Mutation.cancelWithdrawalBatch": "withdrawals:batch",
    "Mutation.confirmAddressEntry": "address_book:write",
    "Mutation.confirmAdjustment": "adjustments:decide",
    "Mutation.createBulkTransfer": "transfers:bulk",
    "Mutation.createCustomer": "customers:write",
    "Mutation.createPayout": "payouts:request",
    "Mutation.createTransfer": "transfers:request",
    "Mutation.createWallet": "wallets:write",
    "Mutation.createWithdrawal": "withdrawals:request",
    "Mutation.createWithdrawalBatch": "withdrawals:batch",
    "Mutation.decideApproval": "approvals:decide",
    "Mutation.decideBatchApproval": "approvals:decide",
    "Mutation.dismissCase": "cases:decide",
    "Mutation.issueAddress": "wallets:write",
    "Mutation.namePaymentReference": "wallets:write",
    "Mutation.proposeAddressEntry": "address_book:write",
    "Mutation.proposeAdjustment": "adjustments:decide",
    "Mutation.quoteWithdrawal": "withdrawals:quote",
    "Mutation.rejectAdjustment": "adjustments:decide",
    "Mutation.removeAddressEntry": "address_book:write",
    "Mutation.restrictToAddressBook": "address_book:write",
    "Mutation.returnCase": "cases:decide",
    "Mutation.withdrawAdjustment": "adjustments:decide",
    "Query.assets": "assets:read",
    "Subscription.approvalNeeded": "approvals:read",
    "Subscription.balanceChanged": "events:watch",
    "Subscription.deposit": "events:watch",
    "Subscription.withdrawal": "events:watch",
}
"""Root fields whose type does not say it: every mutation, and whatever gives a part by itself."""
PREFIXES: Mapping[str, str] = {
    "cus": "customers:read",
    "wal": "wallets:read",
    "adr": "wallets:read",
    "dep": "deposits:read",
    "adj": "adjustments:read",
    "cas": "cases:read",
    "trf": "transfers:read",
    "wdr": "withdrawals:read",
    "bat": "approvals:read",
    "swi": "switches:read",
    "pay": "payouts:read",
}
"""What `node` needs, by the prefix of the id."""
_ROOTS = ("Query", "Mutation", "Subscription")
_SELF = "Query.node"


def guard(schema: GraphQLSchema) -> None:
    """Have every field that leads to something guarded ask first. Raises InvariantViolated for what nobody decided about."""
    for name, kind in schema.type_map.items():
        if not isinstance(kind, GraphQLObjectType) or name.startswith("__"):
            continue
        if name in _ROOTS:
            for field_name, field in kind.fields.items():
                _guard_root(f"{name}.{field_name}", field)
            continue
        if held_type(name) not in TYPES and held_type(name) not in PARTS and not _is_payload(name):
            raise InvariantViolated("no permission for a type: name it in api/graphql/access.py", type=name)
        if name == held_type(name):
            for field in kind.fields.values():
                permission = permission_of(field)
                if permission is not None:
                    _ask_first(field, _always(permission))


def root_permissions(schema: GraphQLSchema) -> dict[str, str]:
    """Root field to its permission; `node` needs that of the kind it is asked for."""
    found = {}
    for name in _ROOTS:
        kind = schema.get_type(name)
        if isinstance(kind, GraphQLObjectType):
            for field_name, field in kind.fields.items():
                at = f"{name}.{field_name}"
                found[at] = "by kind" if at == _SELF else FIELDS.get(at) or permission_of(field) or "?"
    return found


def permission_of(field: GraphQLField) -> str | None:
    """What the type that a field leads to needs."""
    kind = get_named_type(field.type)
    if not isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
        return None
    return TYPES.get(held_type(kind.name))


def held_type(name: str) -> str:
    """What a connection or an edge holds; any other type itself."""
    return name.removesuffix("Connection").removesuffix("Edge")


def _guard_root(at: str, field: GraphQLField) -> None:
    if at == _SELF:
        _ask_first(field, lambda arguments: PREFIXES.get(str(arguments.get("id")).partition("_")[0]))
        return
    permission = FIELDS.get(at) or permission_of(field)
    if permission is None:
        raise InvariantViolated("no permission for a root field: name it in api/graphql/access.py", field=at)
    _ask_first(field, _always(permission))


def _always(permission: str) -> Callable[[dict[str, Any]], str | None]:
    return lambda _: permission


def _is_payload(name: str) -> bool:
    """What a mutation answers with: seen by whoever may call it."""
    return name.endswith(("Payload", "UserError"))


def _ask_first(field: GraphQLField, needed: Callable[[dict[str, Any]], str | None]) -> None:
    for way in ("resolve", "subscribe"):
        inner = getattr(field, way)
        if inner is not None:
            setattr(field, way, _asking(inner, needed))


def _asking(inner: Callable[..., Any], needed: Callable[[dict[str, Any]], str | None]) -> Callable[..., Any]:
    def resolve(source: object, info: Any, **arguments: Any) -> Any:
        permission = needed(arguments)
        context: Context = info.context
        if permission is not None:
            identity.demand(context.caller.principal, permission)
        return inner(source, info, **arguments)

    return resolve
