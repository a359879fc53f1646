"""Deposits that no wallet could be credited with, and what became of them."""

from __future__ import annotations

from datetime import datetime

import strawberry
from strawberry.types import Info

from api.filters import UnknownFilter, one_state
from api.graphql.context import Context
from api.graphql.parties import Money, Node, Wallet, find_wallet, show_money
from custody.assets.model import Asset
from custody.chains.stellar.memo import show_words
from custody.deposits.model import DepositCase, Reason
from custody.deposits.transitions import DEPOSIT_CASES
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import show_id


@strawberry.type
class Arrival:
    """What the chain says of a deposit. `memoType` is `text`, `bytes` (text that is no UTF-8) or `hash` (return memos too)."""

    chain: str
    height: str
    tx_hash: str
    source: str
    account: str
    tag: str | None
    memo_type: str | None
    memo: str | None
    occurred_at: datetime


@strawberry.type
class Case(Node):
    """A deposit that no wallet could be credited with. `amount` is null while its asset is not listed; `atomic` is always
    there."""

    id: strawberry.ID
    state: str
    reason: str
    asset: str
    atomic: str
    amount: Money | None
    deposit_id: strawberry.ID
    withdrawal_id: strawberry.ID | None
    decided_by: str | None
    note: str | None
    opened_at: datetime
    changed_at: datetime
    model: strawberry.Private[DepositCase]

    @strawberry.field
    async def arrival(self, info: Info[Context, None]) -> Arrival:
        """What came, and from where."""
        found = await info.context.deposits_by_id.load(self.model.deposit_id)
        if found is None:
            raise InvariantViolated("a case without its deposit", case=self.model.id)
        info.context.budget.spend(1)
        seen = found.transfer
        return Arrival(
            chain=seen.chain,
            height=str(seen.height),
            tx_hash=seen.tx_hash,
            source=seen.source,
            account=seen.account,
            tag=None if seen.tag is None else str(seen.tag),
            memo_type=seen.memo.partition(":")[0] or None,
            memo=show_words(seen.memo) if seen.memo else None,
            occurred_at=seen.occurred_at,
        )

    @strawberry.field
    async def named_wallet(self, info: Info[Context, None]) -> Wallet | None:
        """The wallet that the sender named, where another reason kept it from being credited."""
        wallet_id = self.model.named_wallet_id
        return None if wallet_id is None else await find_wallet(info, wallet_id)

    @strawberry.field
    async def wallet(self, info: Info[Context, None]) -> Wallet | None:
        """The wallet that it was assigned to."""
        return None if self.model.wallet_id is None else await find_wallet(info, self.model.wallet_id)


def show_case(asset: Asset | None, found: DepositCase) -> Case:
    """A case; `asset` where it is listed."""
    withdrawal_id = found.withdrawal_id
    return Case(
        id=strawberry.ID(show_id("cas", found.id)),
        state=found.state,
        reason=found.reason.value,
        asset=found.asset.text,
        atomic=str(found.amount),
        amount=None if asset is None else show_money(asset, found.amount),
        deposit_id=strawberry.ID(show_id("dep", found.deposit_id)),
        withdrawal_id=None if withdrawal_id is None else strawberry.ID(show_id("wdr", withdrawal_id)),
        decided_by=found.decided_by or None,
        note=found.note or None,
        opened_at=found.opened_at,
        changed_at=found.changed_at,
        model=found,
    )


def checked_states(states: list[str] | None) -> list[str]:
    """The states to look for. Raises UnknownFilter."""
    return [known for state in states or () for known in one_state(state, DEPOSIT_CASES)]


def checked_reasons(reasons: list[str] | None) -> list[Reason]:
    """The reasons to look for. Raises UnknownFilter."""
    known = {each.value: each for each in Reason}
    for reason in reasons or ():
        if reason not in known:
            raise UnknownFilter(reason=reason[:40])
    return [known[each] for each in reasons or ()]
