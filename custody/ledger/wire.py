"""Commands and answers as the posting function reads and writes them, whichever driver carries them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Protocol, assert_never
from uuid import UUID

import orjson

from custody.kernel.ids import TenantId
from custody.ledger.model import (
    ChangeAccount,
    Command,
    ExpireHold,
    Hold,
    OpenAccount,
    Outcome,
    PostHold,
    ResultCode,
    Reverse,
    Transfer,
    VoidHold,
)

GIVEN_WAY = ("40P01", "40001")
"""deadlock_detected and serialization_failure: nothing was done, and the call may be repeated. Source: PostgreSQL, appendix A."""


def encode(tenant: TenantId, chains: Sequence[Sequence[Command]]) -> str:
    """All chains as one JSON array. Amounts are text, since they may be wider than any number that a JSON library must carry."""
    return orjson.dumps(
        [_encode(tenant, number, command) for number, chain in enumerate(chains) for command in chain],
        default=_plain,
    ).decode()


def _plain(value: object) -> str:
    """Drivers read ids as a UUID class of their own, which the JSON library does not know for one."""
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(type(value).__name__)


def _encode(tenant: TenantId, number: int, command: Command) -> dict[str, object]:
    """The command as the posting function reads it. Its content but for chain, id and as_of is what a repeated id must match."""
    fields: dict[str, object]
    match command:
        case OpenAccount(key=key, floor=floor, ceiling=ceiling):
            return {
                "chain": number,
                "kind": "open",
                "account": key.id_for(tenant),
                "account_kind": key.kind.value,
                "owner": key.owner,
                "asset": key.asset.text,
                "floor": None if floor is None else str(floor),
                "ceiling": None if ceiling is None else str(ceiling),
            }
        case Transfer(effective_at=effective_at):
            fields = {"kind": "transfer", **_movement(tenant, command), "effective_at": effective_at}
        case Hold(expires_at=expires_at):
            fields = {"kind": "hold", **_movement(tenant, command), "expires_at": expires_at}
        case PostHold(hold_id=hold_id, amount=amount, final=final, effective_at=effective_at):
            fields = {"kind": "post_hold", "hold": hold_id, "final": final}
            fields["effective_at"] = effective_at
            fields["amount"] = None if amount is None else str(amount.atomic)
            fields["asset"] = None if amount is None else amount.asset.text
        case VoidHold(hold_id=hold_id):
            fields = {"kind": "void_hold", "hold": hold_id}
        case ExpireHold(hold_id=hold_id, as_of=as_of):
            fields = {"kind": "expire_hold", "hold": hold_id, "as_of": as_of}
        case Reverse(transfer_id=transfer_id, effective_at=effective_at):
            fields = {"kind": "reverse", "target": transfer_id, "effective_at": effective_at}
        case ChangeAccount(key=key, event=event):
            fields = {"kind": event, "account": key.id_for(tenant)}
        case _:
            assert_never(command)
    return {"chain": number, "id": command.id, **fields}


def _movement(tenant: TenantId, command: Transfer | Hold) -> dict[str, object]:
    return {
        "debit": command.debit.id_for(tenant),
        "credit": command.credit.id_for(tenant),
        "amount": str(command.amount.atomic),
        "code": command.code.value,
        "reference": command.reference,
    }


class Answered(Protocol):
    """A row of the posting function's answer, of either driver."""

    def __getitem__(self, column: str, /) -> Any:
        """A column's value."""
        ...


def outcome(command: Command, row: Answered) -> Outcome:
    """The answer to a command, from its row."""
    return Outcome(
        command_id=None if isinstance(command, OpenAccount) else command.id,
        result=ResultCode(row["result"]),
        replayed=row["replayed"],
        account_id=row["account_id"],
        debit_version=row["debit_version"],
        debit_balance=_int(row["debit_balance"]),
        credit_version=row["credit_version"],
        credit_balance=_int(row["credit_balance"]),
        booked_at=row["booked_at"],
    )


def _int(value: Decimal | int | None) -> int | None:
    return None if value is None else int(value)
