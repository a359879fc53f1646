"""What can be watched. Each field yields a small fact of the feed; what it is about is read when it is asked for.

`sequence` is the event's place in the tenant's feed, or in the customer's own (`custody/events/customers.py`): whoever subscribes
again with `after` set to the last one received has missed nothing. Where a stream begins, and which events it is given, is
decided by `interest` before a field's function is called.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Annotated, Protocol
from uuid import UUID

import strawberry
from strawberry.types import Info

from api.auth import Caller
from api.graphql.context import Context
from api.graphql.movements import Deposit, Withdrawal, show_deposit, show_withdrawal
from api.graphql.parties import Wallet, find_wallet
from custody.db.session import ReadSession
from custody.events.model import WALLETS, Event
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import DepositId, WalletId, WithdrawalId, parse_id

After = Annotated[
    str | None,
    strawberry.argument(
        description="Begin behind this sequence of the feed; without it, with what happens from now on."
    ),
]


class Source(Protocol):
    """Where a subscription's events come from."""

    def events(self) -> AsyncIterator[Event]:
        """In order."""
        ...


class Watching(Context):
    """What one subscription carries: for each event a snapshot of its own, opened when something is looked up."""

    def __init__(self, caller: Caller, source: Source) -> None:
        """`source`: where its events come from."""
        super().__init__(caller)
        self.source = source
        self.position = 0
        """Place of the event that is being told."""
        self._held = AsyncExitStack()
        self._snapshot: ReadSession | None = None

    async def events(self) -> AsyncIterator[Event]:
        """The source's events, each with a fresh view."""
        async for event in self.source.events():
            self.forget()
            self.position = event.position
            try:
                yield event
            finally:
                # Whoever asks for the next event has done with this one: no transaction stays open while nothing happens.
                self._snapshot = None
                await self._held.aclose()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[ReadSession]:
        if self._snapshot is None:
            self._snapshot = await self._held.enter_async_context(self.caller.read())
        yield self._snapshot


Ctx = Info[Watching, None]


@strawberry.type
class BalanceChanged:
    """A wallet's balances may have changed; `cause` is the event that did it. `wallet { balances }` are those of now."""

    sequence: str
    cause: str
    at: datetime
    wallet_id: strawberry.ID
    key: strawberry.Private[WalletId]

    @strawberry.field
    async def wallet(self, info: Info[Context, None]) -> Wallet | None:
        """Whose they are."""
        return await find_wallet(info, self.key)


@strawberry.type
class DepositEvent:
    """Something happened to a deposit; `type` is the event, `state` is in `deposit`, as it is now."""

    sequence: str
    type: str
    at: datetime
    key: strawberry.Private[DepositId]

    @strawberry.field
    async def deposit(self, info: Info[Context, None]) -> Deposit | None:
        """The deposit; null while its asset is not listed, or where it is not the caller's to see any more."""
        found = await info.context.deposits_by_id.load(self.key)
        if found is None:
            return None
        asset = (await info.context.asset_register()).get(found.transfer.asset)
        return None if asset is None else show_deposit(asset, found)


@strawberry.type
class WithdrawalEvent:
    """Something happened to a withdrawal, or an operation on a vault."""

    sequence: str
    type: str
    at: datetime
    state: str
    key: strawberry.Private[WithdrawalId]

    @strawberry.field
    async def withdrawal(self, info: Info[Context, None]) -> Withdrawal | None:
        """The withdrawal, as it is now."""
        return await _find_withdrawal(info, self.key)


@strawberry.type
class ApprovalNeeded:
    """A withdrawal waits for approvers. Told when it is asked for, and again when one has approved and others are missing."""

    sequence: str
    at: datetime
    key: strawberry.Private[WithdrawalId]

    @strawberry.field
    async def withdrawal(self, info: Info[Context, None]) -> Withdrawal | None:
        """The withdrawal, as it is now; its `policyTrace` names who is missing."""
        return await _find_withdrawal(info, self.key)


@strawberry.type
class Subscription:
    """Everything that a custody app watches."""

    @strawberry.subscription
    async def balance_changed(
        self,
        info: Ctx,
        wallet_id: strawberry.ID | None = None,
        after: After = None,  # noqa: ARG002 - see above
    ) -> AsyncGenerator[BalanceChanged, None]:
        """Changes of one wallet's balances, or of all wallets'."""
        wanted = None if wallet_id is None else parse_id("wal", str(wallet_id))
        async for event in info.context.events():
            for key in event.wallets:
                if wanted in (None, key):
                    yield BalanceChanged(
                        sequence=str(event.position),
                        cause=event.type,
                        at=event.occurred_at,
                        wallet_id=strawberry.ID(f"wal_{key.hex}"),
                        key=key,
                    )

    @strawberry.subscription
    async def deposit(
        self,
        info: Ctx,
        wallet_id: strawberry.ID | None = None,  # noqa: ARG002 - see above
        after: After = None,  # noqa: ARG002 - see above
    ) -> AsyncGenerator[DepositEvent, None]:
        """What happens to the deposits of one wallet, or to all."""
        async for event in info.context.events():
            yield DepositEvent(
                sequence=str(event.position),
                type=event.type,
                at=event.occurred_at,
                key=DepositId(event.object_id),
            )

    @strawberry.subscription
    async def withdrawal(
        self,
        info: Ctx,
        id: strawberry.ID | None = None,  # noqa: A002, ARG002 - named as everywhere; see above
        wallet_id: strawberry.ID | None = None,  # noqa: ARG002 - see above
        after: After = None,  # noqa: ARG002 - see above
    ) -> AsyncGenerator[WithdrawalEvent, None]:
        """What happens to one withdrawal, to those of one wallet, or to all."""
        async for event in info.context.events():
            yield WithdrawalEvent(
                sequence=str(event.position),
                type=event.type,
                at=event.occurred_at,
                state=str(event.data["state"]),
                key=WithdrawalId(event.object_id),
            )

    @strawberry.subscription
    async def approval_needed(
        self,
        info: Ctx,
        after: After = None,  # noqa: ARG002 - see above
    ) -> AsyncGenerator[ApprovalNeeded, None]:
        """Withdrawals that wait for approvers."""
        async for event in info.context.events():
            yield ApprovalNeeded(
                sequence=str(event.position), at=event.occurred_at, key=WithdrawalId(event.object_id)
            )


def interest(field: str, arguments: Mapping[str, object]) -> Callable[[Event], bool]:
    """Which events a field of the subscription is given, by its arguments as documents spell them. Raises MalformedId."""
    wallet = _named("wal", arguments.get("walletId"))
    one = _named("wdr", arguments.get("id"))

    def concerns(event: Event) -> bool:
        return (one is None or event.object_id == one) and (wallet is None or wallet in event.wallets)

    match field:
        case "balanceChanged":
            return lambda event: any(name in event.data for name in WALLETS) and concerns(event)
        case "deposit" | "withdrawal":
            return lambda event: event.type.startswith(f"{field}.") and concerns(event)
        case "approvalNeeded":
            return lambda event: (
                event.type == "withdrawal.requested"
                or (event.type == "withdrawal.decided" and _still_waits(event))
            )
        case _:
            raise InvariantViolated("a subscription without an interest", field=field)


def _named(prefix: str, shown: object) -> UUID | None:
    return None if shown is None else parse_id(prefix, str(shown))


def _still_waits(event: Event) -> bool:
    return event.data["state"] == "awaiting_approval" and event.data["missing"] != 0


async def _find_withdrawal(info: Info[Context, None], key: WithdrawalId) -> Withdrawal | None:
    found = await info.context.withdrawals_by_id.load(key)
    if found is None:
        return None
    return show_withdrawal(await info.context.asset(found.asset), found)
