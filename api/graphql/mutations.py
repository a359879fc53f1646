"""Everything that a custody app does. Each mutation calls the service that its route in REST calls, under the same rules.

What comes back is read anew after the commit.
"""

from __future__ import annotations

from uuid import UUID

import strawberry

from api.errors import at
from api.graphql import nodes
from api.graphql.address_book import AddressBookMutations
from api.graphql.adjustments import AdjustmentMutations
from api.graphql.batches import BatchMutations
from api.graphql.bulk import BulkMutations
from api.graphql.case_decisions import CaseMutations
from api.graphql.commands import Ctx, MutationStatus, carry_out, checked, command_of, fresh
from api.graphql.mutation_types import (
    AddressPayload,
    CancelInput,
    CreateCustomerInput,
    CreatePayoutInput,
    CreateTransferInput,
    CreateWalletInput,
    CreateWithdrawalInput,
    CustomerPayload,
    DecideApprovalInput,
    IssueAddressInput,
    PayoutPayload,
    TransferPayload,
    WalletPayload,
    WithdrawalPayload,
)
from api.graphql.parties import DepositAddress
from api.graphql.quotes import QuoteMutations
from api.graphql.references import ReferenceMutations
from api.rest import customers as customer_routes
from api.rest import payouts as payout_routes
from api.rest import transfers as transfer_routes
from api.rest import wallets as wallet_routes
from api.rest import withdrawals as withdrawal_routes
from api.rest.shapes import load_asset, parse_chain, parse_field_id, parse_moment, parse_money
from custody.chains import address as addresses
from custody.db.session import UnitOfWork
from custody.deposits import execution as deposits
from custody.events.trace import current_trace
from custody.kernel.ids import (
    BankAccountId,
    CustomerId,
    PayoutId,
    QuoteId,
    TransferId,
    WalletId,
    WithdrawalId,
    new_uuid,
)
from custody.payouts import service as payouts
from custody.payouts.model import RequestPayout
from custody.policy.model import Word as DecisionWord
from custody.transfers import service as transfers
from custody.transfers.model import RequestTransfer
from custody.wallets import service as wallets
from custody.withdrawals import service as withdrawals
from custody.withdrawals import voids
from custody.withdrawals.model import NO_MEMO, Memo, RequestWithdrawal


@strawberry.type
class Mutation(
    AddressBookMutations,
    AdjustmentMutations,
    BatchMutations,
    BulkMutations,
    CaseMutations,
    QuoteMutations,
    ReferenceMutations,
):
    """Everything that a custody app does. The same key with the same content is done once."""

    @strawberry.mutation
    async def create_customer(self, info: Ctx, input: CreateCustomerInput) -> CustomerPayload:  # noqa: A002 - Relay names the argument so
        """Add a customer. The same external reference with the same name and kind is the same customer."""
        caller = info.context.caller

        async def work() -> tuple[UUID, bool]:
            command = command_of(info, "createCustomer", input)
            body = checked(
                customer_routes.CustomerIn,
                name=input.name,
                external_ref=input.external_ref,
                kind=input.kind.value,
            )
            wanted = CustomerId(new_uuid())

            async def effect(uow: UnitOfWork) -> UUID:
                made = await wallets.create_customer(
                    uow,
                    caller.principal.subject,
                    wanted,
                    name=body.name,
                    external_ref=body.external_ref,
                    kind=body.kind,
                )
                return made.id

            made, _ = await command.run(effect)
            return made, made != wanted

        done = await carry_out(caller, "customers:write", MutationStatus.DONE, work)
        found = None if done.id is None else await nodes.find_customer(fresh(info), done.id)
        return CustomerPayload(status=done.status, errors=done.errors, customer=found)

    @strawberry.mutation
    async def create_wallet(self, info: Ctx, input: CreateWalletInput) -> WalletPayload:  # noqa: A002 - as above
        """Open a wallet for a customer."""
        caller = info.context.caller

        async def work() -> tuple[UUID, bool]:
            command = command_of(info, "createWallet", input)
            body = checked(wallet_routes.WalletIn, customer_id=str(input.customer_id), name=input.name)
            customer = CustomerId(parse_field_id("cus", body.customer_id, "customer_id"))

            async def effect(uow: UnitOfWork) -> UUID:
                subject = caller.principal.subject
                made = await wallets.create_wallet(uow, subject, WalletId(new_uuid()), customer, body.name)
                return made.id

            return await command.run(effect)

        done = await carry_out(caller, "wallets:write", MutationStatus.DONE, work)
        found = None if done.id is None else await nodes.find_wallet(fresh(info), done.id)
        return WalletPayload(status=done.status, errors=done.errors, wallet=found)

    @strawberry.mutation
    async def issue_address(self, info: Ctx, input: IssueAddressInput) -> AddressPayload:  # noqa: A002 - as above
        """Issue a deposit address. On EVM chains a wallet has one, the same on all: asking again answers with it."""
        caller = info.context.caller

        async def work() -> tuple[UUID, bool]:
            command = command_of(info, "issueAddress", input)
            memo = None if input.memo is None else {"type": input.memo.type.value, "value": input.memo.value}
            body = checked(wallet_routes.AddressIn, chain=input.chain, memo=memo)
            wallet = WalletId(parse_field_id("wal", str(input.wallet_id), "wallet_id"))
            chain = parse_chain(caller.app.clients, body.chain)
            if (known := await command.recorded()) is not None:
                return known, True
            issued = await deposits.issue_address(
                caller.app.db,
                caller.app.signer,
                caller.principal,
                wallet,
                chain,
                command.derived_id("address"),
                wallet_routes.read_memo(chain, body),
            )

            async def effect(_: UnitOfWork) -> UUID:
                return issued.id

            return await command.run(effect)

        done = await carry_out(caller, "wallets:write", MutationStatus.DONE, work)
        found = None if done.id is None else await nodes.find_address(fresh(info), done.id)
        address = found if isinstance(found, DepositAddress) else None
        return AddressPayload(status=done.status, errors=done.errors, address=address)

    @strawberry.mutation
    async def create_transfer(self, info: Ctx, input: CreateTransferInput) -> TransferPayload:  # noqa: A002 - as above
        """Move money between two wallets, at once and for good. Both exist and the first has enough, or nothing happens."""
        caller = info.context.caller

        async def work() -> tuple[UUID, bool]:
            command = command_of(info, "createTransfer", input)
            body = checked(
                transfer_routes.TransferIn,
                from_wallet_id=str(input.from_wallet_id),
                to_wallet_id=str(input.to_wallet_id),
                asset=input.asset,
                amount=input.amount,
                fee=input.fee,
            )
            source = WalletId(parse_field_id("wal", body.from_wallet_id, "from_wallet_id"))
            destination = WalletId(parse_field_id("wal", body.to_wallet_id, "to_wallet_id"))

            async def effect(uow: UnitOfWork) -> UUID:
                asset = await load_asset(uow, body.asset)
                wanted = RequestTransfer(
                    id=TransferId(new_uuid()),
                    source_wallet_id=source,
                    destination_wallet_id=destination,
                    amount=parse_money(asset, body.amount),
                    fee=None if body.fee is None else parse_money(asset, body.fee, "fee"),
                )
                return (await transfers.request(uow, caller.principal, wanted)).id

            return await command.run(effect)

        done = await carry_out(caller, "transfers:request", MutationStatus.DONE, work)
        found = None if done.id is None else await nodes.find_transfer(fresh(info), done.id)
        return TransferPayload(status=done.status, errors=done.errors, transfer=found)

    @strawberry.mutation
    async def create_withdrawal(self, info: Ctx, input: CreateWithdrawalInput) -> WithdrawalPayload:  # noqa: A002 - as above
        """Ask for a withdrawal. The amount is held on the wallet from now until it is settled or released."""
        caller = info.context.caller

        async def work() -> tuple[UUID, bool]:
            command = command_of(info, "createWithdrawal", input)
            memo = None if input.memo is None else {"type": input.memo.type.value, "value": input.memo.value}
            body = checked(
                withdrawal_routes.WithdrawalIn,
                wallet_id=str(input.wallet_id),
                asset=input.asset,
                amount=input.amount,
                destination=input.destination,
                memo=memo,
                expires_in_s=input.expires_in_s,
                quote_id=None if input.quote_id is None else str(input.quote_id),
                execute_after=input.execute_after,
            )
            quote = None if body.quote_id is None else parse_field_id("qte", body.quote_id, "quote_id")
            after = None if body.execute_after is None else parse_moment(body.execute_after, "execute_after")
            wallet = WalletId(parse_field_id("wal", body.wallet_id, "wallet_id"))
            settings = withdrawal_routes.with_window(caller.app.settings, body.expires_in_s)
            if (known := await command.recorded()) is not None:
                return known, True
            # No network call inside the transaction: the receiver is looked up before it.
            receiver = await withdrawal_routes.look_up_receiver(
                caller.app.clients, body.asset, body.destination
            )

            async def effect(uow: UnitOfWork) -> UUID:
                asset = await load_asset(uow, body.asset)
                amount = parse_money(asset, body.amount)
                with at("/destination"):
                    addresses.parse(asset.id.chain, body.destination)
                wanted = RequestWithdrawal(
                    id=WithdrawalId(new_uuid()),
                    wallet_id=wallet,
                    asset=asset.id,
                    destination=body.destination,
                    amount=amount.atomic,
                    memo=NO_MEMO if body.memo is None else Memo(type=body.memo.type, value=body.memo.value),
                    quote_id=None if quote is None else QuoteId(quote),
                    execute_after=after,
                )
                made = await withdrawals.request(
                    uow,
                    caller.principal,
                    wanted,
                    settings=settings,
                    clock=caller.app.clock,
                    receiver=receiver,
                )
                return made.id

            return await command.run(effect)

        done = await carry_out(caller, "withdrawals:request", MutationStatus.PENDING, work)
        found = None if done.id is None else await nodes.find_withdrawal(fresh(info), done.id)
        return WithdrawalPayload(status=done.status, errors=done.errors, withdrawal=found)

    @strawberry.mutation
    async def cancel_withdrawal(self, info: Ctx, input: CancelInput) -> WithdrawalPayload:  # noqa: A002 - as above
        """Take a withdrawal back while no key can have been touched. Its hold is released."""
        caller = info.context.caller

        async def work() -> tuple[UUID, bool]:
            command = command_of(info, "cancelWithdrawal", input)
            wanted = WithdrawalId(parse_field_id("wdr", str(input.id), "id"))

            if (known := await command.recorded()) is not None:
                return known, True
            async with caller.read() as session:
                before = await withdrawals.get(session, wanted)
            voided = await voids.void_approved(caller.app.signer, [before])

            async def effect(uow: UnitOfWork) -> UUID:
                return (await voids.cancel(uow, caller.principal, wanted, voided)).id

            return await command.run(effect)

        done = await carry_out(caller, "withdrawals:cancel", MutationStatus.DONE, work)
        found = None if done.id is None else await nodes.find_withdrawal(fresh(info), done.id)
        return WithdrawalPayload(status=done.status, errors=done.errors, withdrawal=found)

    @strawberry.mutation
    async def decide_approval(self, info: Ctx, input: DecideApprovalInput) -> WithdrawalPayload:  # noqa: A002 - as above
        """Record an approver's decision about a withdrawal. The signer checks every signature again before it signs anything."""
        caller = info.context.caller

        async def work() -> tuple[UUID, bool]:
            command = command_of(info, "decideApproval", input)
            wanted = WithdrawalId(parse_field_id("wdr", str(input.id), "id"))
            decision = input.read()
            if (known := await command.recorded()) is not None:
                return known, True
            app, tenant = caller.app, caller.principal.tenant
            rejects = decision.word is DecisionWord.REJECT
            voided = (
                await voids.void_rejected(app.db, app.signer, tenant, wanted, decision) if rejects else ()
            )

            async def effect(uow: UnitOfWork) -> UUID:
                if rejects:
                    return (await voids.reject(uow, wanted, decision, voided)).id
                return (await withdrawals.decide(uow, wanted, decision)).id

            return await command.run(effect)

        done = await carry_out(caller, "approvals:decide", MutationStatus.DONE, work)
        if done.id is None:
            return WithdrawalPayload(status=done.status, errors=done.errors)
        await caller.app.waker.wake("advance_withdrawal", caller.principal.tenant, done.id, current_trace())
        found = await nodes.find_withdrawal(fresh(info), done.id)
        return WithdrawalPayload(status=done.status, errors=done.errors, withdrawal=found)

    @strawberry.mutation
    async def create_payout(self, info: Ctx, input: CreatePayoutInput) -> PayoutPayload:  # noqa: A002 - as above
        """Ask for a payout. The amount is held on the wallet until the rail has settled or refused it."""
        caller = info.context.caller

        async def work() -> tuple[UUID, bool]:
            command = command_of(info, "createPayout", input)
            body = checked(
                payout_routes.PayoutIn,
                wallet_id=str(input.wallet_id),
                bank_account_id=str(input.bank_account_id),
                asset=input.asset,
                amount=input.amount,
                beneficiary={"iban": input.beneficiary_iban, "name": input.beneficiary_name},
                remittance=input.remittance,
            )
            wallet = WalletId(parse_field_id("wal", body.wallet_id, "wallet_id"))
            bank = BankAccountId(parse_field_id("bnk", body.bank_account_id, "bank_account_id"))

            async def effect(uow: UnitOfWork) -> UUID:
                asset = await load_asset(uow, body.asset)
                wanted = RequestPayout(
                    id=PayoutId(new_uuid()),
                    wallet_id=wallet,
                    bank_account_id=bank,
                    beneficiary_iban=body.beneficiary.iban,
                    beneficiary_name=body.beneficiary.name,
                    amount=parse_money(asset, body.amount),
                    remittance=body.remittance,
                )
                return (await payouts.request(uow, caller.principal, wanted)).id

            return await command.run(effect)

        done = await carry_out(caller, "payouts:request", MutationStatus.PENDING, work)
        found = None if done.id is None else await nodes.find_payout(fresh(info), done.id)
        return PayoutPayload(status=done.status, errors=done.errors, payout=found)

    @strawberry.mutation
    async def cancel_payout(self, info: Ctx, input: CancelInput) -> PayoutPayload:  # noqa: A002 - as above
        """Take a payout back before it was sent to the rail. Its hold is released."""
        caller = info.context.caller

        async def work() -> tuple[UUID, bool]:
            command = command_of(info, "cancelPayout", input)
            wanted = PayoutId(parse_field_id("pay", str(input.id), "id"))

            async def effect(uow: UnitOfWork) -> UUID:
                return (await payouts.cancel(uow, caller.principal, wanted)).id

            return await command.run(effect)

        done = await carry_out(caller, "payouts:cancel", MutationStatus.DONE, work)
        found = None if done.id is None else await nodes.find_payout(fresh(info), done.id)
        return PayoutPayload(status=done.status, errors=done.errors, payout=found)
