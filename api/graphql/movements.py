"""Money that moved or is about to: deposits, transfers, withdrawals with their approvals and attempts, payouts."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import strawberry
from strawberry.types import Info

from api.graphql.cases import Case, show_case
from api.graphql.context import Context
from api.graphql.outgoing import Screening, show_screening
from api.graphql.parties import Money, Node, Wallet, find_wallet, show_money
from api.rest.approvals import show_base64url
from custody.assets.model import Asset
from custody.deposits.model import Deposit as DepositModel
from custody.kernel.ids import DepositId, WalletId, show_id
from custody.payouts.model import Payout as PayoutModel
from custody.tariffs.model import HeldFee
from custody.transfers.model import WalletTransfer
from custody.withdrawals import service as withdrawals
from custody.withdrawals.judging import Judgement
from custody.withdrawals.model import Withdrawal as WithdrawalModel


@strawberry.type
class Deposit(Node):
    """Money that arrived from outside at one of our vaults."""

    id: strawberry.ID
    state: str
    amount: Money
    chain: str
    height: str
    tx_hash: str
    source: str
    account: str
    memo: str | None
    occurred_at: datetime
    wallet_key: strawberry.Private[WalletId | None]
    key: strawberry.Private[DepositId]

    @strawberry.field
    async def wallet(self, info: Info[Context, None]) -> Wallet | None:
        """Whose it is; null while nobody can be named."""
        return None if self.wallet_key is None else await find_wallet(info, self.wallet_key)

    @strawberry.field
    async def case(self, info: Info[Context, None]) -> Case | None:
        """Why it could not be credited at once, and what was decided about it; null where it could."""
        found = await info.context.cases.load(self.key)
        info.context.budget.spend(1)
        return None if found is None else show_case(await info.context.asset(found.asset), found)


@strawberry.type
class Transfer(Node):
    """Money that went from one wallet to another, at once and for good."""

    id: strawberry.ID
    amount: Money
    fee: Money | None
    booked_at: datetime
    model: strawberry.Private[WalletTransfer]

    @strawberry.field
    async def source(self, info: Info[Context, None]) -> Wallet | None:
        """Who paid."""
        return await find_wallet(info, self.model.source_wallet_id)

    @strawberry.field
    async def destination(self, info: Info[Context, None]) -> Wallet | None:
        """Who was paid."""
        return await find_wallet(info, self.model.destination_wallet_id)


@strawberry.type
class Assertion:
    """What a passkey's signature covers, each in base64url without padding."""

    credential_id: str
    authenticator_data: str
    client_data_json: str


@strawberry.type
class Approval:
    """One approver's signed word."""

    approver: str
    decision: str
    public_key: str
    signature: str
    webauthn: Assertion | None


@strawberry.type
class PolicyDemand:
    """How far one demand of the rule is met. `candidates` are people of the group who have not decided and may."""

    group: str
    threshold: int
    missing: int
    counted: list[str]
    candidates: list[str]


@strawberry.type
class PolicyTrace:
    """How the policy stands towards a withdrawal, with the rule that says so. `standing` is `pending`, `approved`, `rejected` or
    `denied`; `reason` is the code of a denial. The signer asks itself the same and has the last word."""

    standing: str
    rule: str | None
    reason: str | None
    policy_version: int
    approver_set_version: int
    threshold: int
    missing: int
    cool_down_s: int
    demands: list[PolicyDemand]
    decided: list[str]


@strawberry.type
class Attempt:
    """One transaction that carries a withdrawal out."""

    number: int
    state: str
    sequence: str
    tx_hash: str | None
    height: str | None
    fee_atomic: str | None


@strawberry.type
class WithdrawalFee:
    """What a withdrawal costs its wallet, on top of its amount. `kind`: `free`, `flat`, `bps` of the amount, or `network`: what
    the chain takes, up to what is held. `quoted` is null where no quote was named; `charged` until the withdrawal has ended, and
    zero where it ended unpaid."""

    kind: str
    tariff_version: int | None
    quote_id: strawberry.ID | None
    quoted: Money | None
    held: Money
    charged: Money | None


@strawberry.type
class Withdrawal(Node):
    """Money that leaves for an address outside, or an operation on a vault."""

    id: strawberry.ID
    kind: str
    state: str
    amount: Money
    fee: WithdrawalFee | None
    destination: str
    memo_type: str | None
    memo: str | None
    digest: str
    reason: str | None
    stuck: str | None
    initiator: str
    expires_at: datetime
    execute_after: datetime | None
    cool_until: datetime | None
    created_at: datetime
    changed_at: datetime
    model: strawberry.Private[WithdrawalModel]

    @strawberry.field
    def intent_kind(self) -> str:
        """Kind of the intent, as approvers see it: by what form the receiver is paid."""
        return withdrawals.intent_kind(self.model)

    @strawberry.field
    async def wallet(self, info: Info[Context, None]) -> Wallet | None:
        """Who pays; null for an operation on a vault."""
        return None if self.model.wallet_id is None else await find_wallet(info, self.model.wallet_id)

    @strawberry.field
    async def approvals(self, info: Info[Context, None]) -> list[Approval]:
        """Decisions so far, oldest first."""
        found = await info.context.decisions.load(self.model.digest)
        info.context.budget.spend(len(found))
        return [
            Approval(
                approver=each.approver,
                decision=each.word.value,
                public_key=each.public_key,
                signature=each.signature,
                webauthn=None
                if each.assertion is None
                else Assertion(
                    credential_id=each.assertion.credential_id,
                    authenticator_data=show_base64url(each.assertion.authenticator_data),
                    client_data_json=show_base64url(each.assertion.client_data_json),
                ),
            )
            for each in found
        ]

    @strawberry.field
    async def screenings(self, info: Info[Context, None]) -> list[Screening]:
        """What was said about the receiver, oldest first; nothing for an operation on a vault."""
        found = await info.context.screenings.load(self.model.id)
        info.context.budget.spend(len(found))
        return [show_screening(each) for each in found]

    @strawberry.field
    async def policy_trace(self, info: Info[Context, None]) -> PolicyTrace:
        """Which rule decides about it, who has decided, and who is missing."""
        found = await info.context.judgements.load(self.model)
        info.context.budget.spend(1 + len(found.seats))
        return show_trace(found)

    @strawberry.field
    async def attempts(self, info: Info[Context, None]) -> list[Attempt]:
        """Transactions, oldest first."""
        found = await info.context.attempts.load(self.model.id)
        info.context.budget.spend(len(found))
        return [
            Attempt(
                number=each.number,
                state=each.state,
                sequence=str(each.sequence),
                tx_hash=each.tx_hash,
                height=None if each.height is None else str(each.height),
                fee_atomic=None if each.fee_paid is None else str(each.fee_paid),
            )
            for each in found
        ]


@strawberry.type
class Payout(Node):
    """Money that leaves for a bank account outside."""

    id: strawberry.ID
    state: str
    rail: str
    amount: Money
    beneficiary_iban: str
    beneficiary_name: str
    remittance: str
    reference: str | None
    external_ref: str | None
    reason: str | None
    created_at: datetime
    wallet_key: strawberry.Private[WalletId]

    @strawberry.field
    async def wallet(self, info: Info[Context, None]) -> Wallet | None:
        """Who pays."""
        return await find_wallet(info, self.wallet_key)


def show_deposit(asset: Asset, found: DepositModel) -> Deposit:
    """A deposit."""
    seen = found.transfer
    return Deposit(
        id=_id("dep", found.id),
        state=found.state,
        amount=show_money(asset, seen.amount),
        chain=seen.chain,
        height=str(seen.height),
        tx_hash=seen.tx_hash,
        source=seen.source,
        account=seen.account,
        memo=seen.memo or None,
        occurred_at=seen.occurred_at,
        wallet_key=found.wallet_id,
        key=found.id,
    )


def show_transfer(asset: Asset, found: WalletTransfer) -> Transfer:
    """A transfer between wallets."""
    return Transfer(
        id=_id("trf", found.id),
        amount=show_money(asset, found.amount.atomic),
        fee=None if found.fee is None else show_money(asset, found.fee.atomic),
        booked_at=found.booked_at,
        model=found,
    )


def show_withdrawal(asset: Asset, found: WithdrawalModel) -> Withdrawal:
    """A withdrawal."""
    has_memo = found.memo.type != "none"
    return Withdrawal(
        id=_id("wdr", found.id),
        kind=found.kind,
        state=found.state,
        amount=show_money(asset, found.amount),
        fee=None if found.fee is None else _show_fee(asset, found.fee),
        destination=found.destination,
        memo_type=found.memo.type if has_memo else None,
        memo=found.memo.value if has_memo else None,
        digest=found.digest.hex(),
        reason=found.reason or None,
        stuck=found.stuck_reason or None,
        initiator=found.initiator,
        expires_at=found.expires_at,
        execute_after=found.execute_after,
        cool_until=found.cool_until,
        created_at=found.created_at,
        changed_at=found.changed_at,
        model=found,
    )


def show_trace(found: Judgement) -> PolicyTrace:
    """What the policy says."""
    verdict = found.verdict
    return PolicyTrace(
        standing=verdict.standing.value,
        rule=verdict.rule or None,
        reason=verdict.reason or None,
        policy_version=found.policy_version,
        approver_set_version=found.approver_set_version,
        threshold=verdict.threshold,
        missing=verdict.missing,
        cool_down_s=verdict.cool_down_s,
        demands=[
            PolicyDemand(
                group=seat.count.group,
                threshold=seat.count.threshold,
                missing=seat.count.missing,
                counted=list(seat.count.counted),
                candidates=list(seat.candidates),
            )
            for seat in found.seats
        ],
        decided=[each.approver for each in found.decisions],
    )


def show_payout(asset: Asset, found: PayoutModel) -> Payout:
    """A payout."""
    return Payout(
        id=_id("pay", found.id),
        state=found.state,
        rail=found.rail,
        amount=show_money(asset, found.amount.atomic),
        beneficiary_iban=found.beneficiary_iban,
        beneficiary_name=found.beneficiary_name,
        remittance=found.remittance,
        reference=found.reference,
        external_ref=found.external_ref,
        reason=found.reason or None,
        created_at=found.created_at,
        wallet_key=found.wallet_id,
    )


def _show_fee(asset: Asset, fee: HeldFee) -> WithdrawalFee:
    return WithdrawalFee(
        kind=fee.kind,
        tariff_version=fee.tariff_version,
        quote_id=None if fee.quote_id is None else _id("qte", fee.quote_id),
        quoted=None if fee.quote_id is None else show_money(asset, fee.held),
        held=show_money(asset, fee.held),
        charged=None if fee.charged is None else show_money(asset, fee.charged),
    )


def _id(prefix: str, value: UUID) -> strawberry.ID:
    return strawberry.ID(show_id(prefix, value))
