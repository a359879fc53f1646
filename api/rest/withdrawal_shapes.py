"""How withdrawals look in bodies: with their attempts, and with what was said about their receivers."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import Field

from api.rest.fees import FeeOut, show_fee
from api.rest.shapes import AmountOut, AtomicText, In, Out, show_amount, show_time
from custody.assets import service as assets
from custody.assets.model import Asset
from custody.db.session import ReadSession
from custody.kernel.ids import show_id
from custody.screening.model import Result
from custody.withdrawals import service as withdrawals
from custody.withdrawals.model import Attempt, Withdrawal
from custody.withdrawals.transitions import WITHDRAWALS


class MemoIn(In):
    """What a Stellar payment says to its receiver, when the address is not a muxed one."""

    type: Literal["id", "text", "hash"] = Field(examples=["id"])
    value: str = Field(
        min_length=1,
        max_length=64,
        description="A number below 2^64, up to 28 characters, or 64 hex digits.",
        examples=["7001"],
    )


class AttemptOut(Out):
    """One transaction that carries a withdrawal out."""

    number: int
    state: str = Field(examples=["broadcast"])
    sequence: str = Field(description="Stellar sequence number or EVM nonce.")
    tx_hash: str | None
    height: int | None = Field(description="Block that holds it.")
    fee_atomic: AtomicText | None = Field(description="What the network took, in its own currency.")


class WithdrawalOut(Out):
    """A withdrawal as it stands."""

    id: str = Field(examples=["wdr_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    kind: str = Field(
        description="`payment`; `return` of a suspended deposit; `refill` from one vault to another; `sweep` of a deposit "
        "address; `change_trust` for a vault's trustline, `memo_required` for its wish for memos; `anchor` for a checkpoint's "
        "hash on chain; `fee_bump` for a withdrawal that is stuck; `evm_cancel` and `evm_fill` use up a nonce for nothing."
    )
    state: str = Field(description=f"One of {', '.join(WITHDRAWALS.states)}.", examples=["awaiting_approval"])
    wallet_id: str | None
    vault_id: str
    amount: AmountOut
    fee: FeeOut | None = Field(
        description="What it costs the wallet on top; null where no tariff was in force."
    )
    destination: str
    memo: MemoIn | None
    intent_kind: str = Field(
        description="Kind of the intent, as approvers see it: by what form the receiver is paid. On Stellar "
        "`stellar_create_account` opens its account, `stellar_create_claimable_balance` sets the amount aside for it to claim.",
        examples=["stellar_payment"],
    )
    digest: str = Field(description="Names the intent; what approvers sign for. Hexadecimal.")
    reason: str | None = Field(description="Why it ended without being paid.")
    stuck: str | None = Field(
        description="Why it goes no further by itself and a person should look; null while it moves.",
        examples=[None],
    )
    expires_at: str
    execute_after: str | None = Field(description="Before when it is not carried out, as it was asked for.")
    cool_until: str | None = Field(
        description="Until when it cools, or cooled, down once approved; null where nothing had it wait."
    )
    created_at: str
    changed_at: str


class ScreeningOut(Out):
    """What somebody said about the receiver."""

    screener: str = Field(
        description="`list` for the tenant's own list, or the outside screener's name.", examples=["list"]
    )
    finding: str = Field(description="`clear`, `hit` or `unknown`.", examples=["clear"])
    detail: str
    list_version: int | None = Field(description="Which rows of the list were known.")
    reference: str = Field(description="Ours; the same however often the screener is asked.")
    created_at: str


class WithdrawalDetail(WithdrawalOut):
    """A withdrawal with its attempts and what was said about its receiver."""

    attempts: list[AttemptOut]
    screenings: list[ScreeningOut]


async def show_withdrawal(session: ReadSession, found: Withdrawal) -> WithdrawalOut:
    """A withdrawal as responses carry it."""
    return describe_withdrawal(await assets.get(session, found.asset), found)


def describe_withdrawal(asset: Asset, found: Withdrawal) -> WithdrawalOut:
    """The same, where its asset is at hand."""
    return WithdrawalOut(
        id=show_id("wdr", found.id),
        kind=found.kind,
        state=found.state,
        wallet_id=_shown("wal", found.wallet_id),
        vault_id=show_id("vlt", found.vault_id),
        amount=show_amount(asset, found.amount),
        fee=None if found.fee is None else show_fee(asset, found.fee),
        destination=found.destination,
        memo=None if found.memo.type == "none" else MemoIn(type=found.memo.type, value=found.memo.value),
        intent_kind=withdrawals.intent_kind(found),
        digest=found.digest.hex(),
        reason=found.reason or None,
        stuck=found.stuck_reason or None,
        expires_at=show_time(found.expires_at),
        execute_after=None if found.execute_after is None else show_time(found.execute_after),
        cool_until=None if found.cool_until is None else show_time(found.cool_until),
        created_at=show_time(found.created_at),
        changed_at=show_time(found.changed_at),
    )


def show_attempt(attempt: Attempt) -> AttemptOut:
    """An attempt as responses carry it. Its signed bytes are nobody's business until they are on chain."""
    return AttemptOut(
        number=attempt.number,
        state=attempt.state,
        sequence=str(attempt.sequence),
        tx_hash=attempt.tx_hash,
        height=attempt.height,
        fee_atomic=None if attempt.fee_paid is None else str(attempt.fee_paid),
    )


def show_screening(result: Result) -> ScreeningOut:
    """What was said about a receiver, as responses carry it."""
    return ScreeningOut(
        screener=result.screener,
        finding=result.finding.value,
        detail=result.detail,
        list_version=result.list_version,
        reference=str(result.reference),
        created_at=show_time(result.created_at),
    )


def _shown(prefix: str, value: UUID | None) -> str | None:
    return None if value is None else show_id(prefix, value)
