"""Commands and answers as the posting function reads and writes them, whichever driver carries them. Pure.

One array per parameter of `ledger_post`, one place per command. What a place means depends on the kind; `0002_ledger_apply.sql`
has the table. Amounts travel as text: they may be wider than any number that a driver must carry.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, Protocol, assert_never, cast
from uuid import UUID

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

PARAMETERS = (
    "chain", "kind", "id", "debit", "credit", "amount", "code", "reference", "target", "moment", "asset", "final", "floor",
    "ceiling",
)  # fmt: skip
"""The arrays, in the order of the function's parameters after tenant and gate."""

_Place = tuple[
    int, str, UUID | None, UUID | None, UUID | None, str | None, str | None, UUID | None, UUID | None, datetime | None,
    str | None, bool | None, str | None, str | None,
]  # fmt: skip

_RESULTS = {code.value: code for code in ResultCode}


def encode(tenant: TenantId, chains: Sequence[Sequence[Command]]) -> list[list[Any] | None]:
    """All chains as arrays. One that says nothing of any command is None."""
    places = [
        _place(tenant, number, command) for number, commands in enumerate(chains) for command in commands
    ]
    arrays: list[list[Any] | None] = [list(column) for column in zip(*places, strict=True)]
    for n in range(_FIRST_RARE, len(PARAMETERS)):
        column = arrays[n]
        if column is not None and column.count(None) == len(column):
            arrays[n] = None
    return arrays


_FIRST_RARE = PARAMETERS.index("target")
"""From here on, most calls have nothing to say."""


def _place(tenant: TenantId, number: int, command: Command) -> _Place:
    """The command as one place of each array. All but chain, id and an expiry's time is what a repeated id must match."""
    match command:
        case Transfer():
            return _movement(tenant, number, "transfer", command, command.effective_at)
        case Hold():
            return _movement(tenant, number, "hold", command, command.expires_at)
        case OpenAccount(key=key, floor=floor, ceiling=ceiling):
            account = key.id_for(tenant)
            limits = (None if floor is None else str(floor), None if ceiling is None else str(ceiling))
            named = (key.kind.value, key.owner, None, None, key.asset.text, None)
            return (number, "open", None, account, None, None, *named, *limits)
        case PostHold(hold_id=hold_id, amount=amount, final=final, effective_at=moment):
            atomic = None if amount is None else str(amount.atomic)
            asset = None if amount is None else amount.asset.text
            rest = (None, None, hold_id, moment, asset, final, None, None)
            return (number, "post_hold", command.id, None, None, atomic, *rest)
        case VoidHold(hold_id=target):
            return _ending(number, "void_hold", command.id, target, None)
        case ExpireHold(hold_id=target, as_of=moment):
            return _ending(number, "expire_hold", command.id, target, moment)
        case Reverse(transfer_id=target, effective_at=moment):
            return _ending(number, "reverse", command.id, target, moment)
        case ChangeAccount(key=key, event=event):
            nothing = (None,) * 10
            return (number, event, command.id, key.id_for(tenant), *nothing)
        case _:
            assert_never(command)


def _movement(
    tenant: TenantId, number: int, kind: str, command: Transfer | Hold, moment: datetime | None
) -> _Place:
    return (
        number, kind, command.id, command.debit.id_for(tenant), command.credit.id_for(tenant), str(command.amount.atomic),
        command.code.value, command.reference, None, moment, None, None, None, None,
    )  # fmt: skip


def _ending(number: int, kind: str, command_id: UUID, target: UUID, moment: datetime | None) -> _Place:
    return (
        number, kind, command_id, None, None, None, None, None, target, moment, None, None, None, None,
    )  # fmt: skip


class Answered(Protocol):
    """The posting function's answer, of either driver: a row of arrays."""

    def __getitem__(self, column: str, /) -> Any:
        """A column's value."""
        ...


def outcomes(chains: Sequence[Sequence[Command]], answer: Answered) -> list[Outcome]:
    """The answer to each command, in order. Where nothing but new transfers was asked, and all were applied, it is short."""
    if answer["results"] is None:
        (booked_at,) = answer["booked_at"]
        moved = cast("Iterator[Transfer]", chain.from_iterable(chains))  # the function says so
        applied = ResultCode.APPLIED
        return [
            Outcome(
                command.id,
                applied,
                False,
                None,
                debit,
                int(debit_balance),
                credit,
                int(credit_balance),
                booked_at,
            )
            for command, debit, debit_balance, credit, credit_balance in zip(
                moved, *(answer[column] for column in _MOVED), strict=True
            )
        ]
    return [
        Outcome(
            command_id=None if type(command) is OpenAccount else command.id,
            result=_RESULTS[result],
            replayed=replayed,
            account_id=account,
            debit_version=debit_version,
            debit_balance=None if debit_balance is None else int(debit_balance),
            credit_version=credit_version,
            credit_balance=None if credit_balance is None else int(credit_balance),
            booked_at=booked_at,
        )
        for (
            command, result, replayed, account, debit_version, debit_balance, credit_version, credit_balance, booked_at,
        ) in zip(
            chain.from_iterable(chains), *(answer[column] for column in _COLUMNS), strict=True,
        )
    ]  # fmt: skip


_MOVED = ("debit_versions", "debit_balances", "credit_versions", "credit_balances")
_COLUMNS = (
    "results", "replayed", "accounts", "debit_versions", "debit_balances", "credit_versions", "credit_balances", "booked_at",
)  # fmt: skip
