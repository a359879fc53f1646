"""What mutations take and give back: every input has the caller's `idempotencyKey`, every payload a status and errors."""

from __future__ import annotations

from enum import Enum

import strawberry

from api.graphql.commands import MutationError, MutationStatus, checked
from api.graphql.movements import Payout, Transfer, Withdrawal
from api.graphql.parties import Customer, DepositAddress, Wallet
from api.rest import approvals
from custody.policy.model import Decision


@strawberry.enum
class CustomerKind(Enum):
    """For whom money is held."""

    CUSTOMER = "customer"
    TREASURY = "treasury"


@strawberry.enum
class Word(Enum):
    """What an approver says."""

    APPROVE = "approve"
    REJECT = "reject"


@strawberry.enum
class PaymentMemo(Enum):
    """What kind of memo a Stellar payment carries."""

    ID = "id"
    TEXT = "text"
    HASH = "hash"


@strawberry.enum
class NamingMemo(Enum):
    """What kind of memo names a wallet on Stellar. One that is issued has the kind id."""

    TEXT = "text"
    HASH = "hash"
    RETURN = "return"


@strawberry.input
class CreateCustomerInput:
    """A customer to add. `externalRef` is your own id for them; unique."""

    idempotency_key: str
    name: str
    external_ref: str
    kind: CustomerKind = CustomerKind.CUSTOMER


@strawberry.input
class CreateWalletInput:
    """A wallet to open for a customer."""

    idempotency_key: str
    customer_id: strawberry.ID
    name: str


@strawberry.input
class NamingMemoInput:
    """A memo that is to name the wallet: up to 28 bytes of text, or 64 hex digits."""

    type: NamingMemo
    value: str


@strawberry.input
class IssueAddressInput:
    """On which chain an address is wanted; on Stellar with a memo that senders insist on, instead of one that is issued."""

    idempotency_key: str
    wallet_id: strawberry.ID
    chain: str
    memo: NamingMemoInput | None = None


@strawberry.input
class CreateTransferInput:
    """Money to move between two wallets, in atomic units. `fee` is charged to the payer on top, in the same asset."""

    idempotency_key: str
    from_wallet_id: strawberry.ID
    to_wallet_id: strawberry.ID
    asset: str
    amount: str
    fee: str | None = None


@strawberry.input
class PaymentMemoInput:
    """What a Stellar payment says to its receiver: a number below 2^64, up to 28 characters, or 64 hex digits."""

    type: PaymentMemo
    value: str


@strawberry.input
class CreateWithdrawalInput:
    """Money to send outside, in atomic units. `expiresInS`: how long approvers have; at most what is configured. `quoteId`: the
    quote that it was agreed by. `executeAfter`: before when it is not carried out, with its offset from UTC."""

    idempotency_key: str
    wallet_id: strawberry.ID
    asset: str
    amount: str
    destination: str
    memo: PaymentMemoInput | None = None
    expires_in_s: int | None = None
    quote_id: strawberry.ID | None = None
    execute_after: str | None = None


@strawberry.input
class CreatePayoutInput:
    """Money to pay into a bank account, in atomic units, out of one of our bank accounts."""

    idempotency_key: str
    wallet_id: strawberry.ID
    bank_account_id: strawberry.ID
    asset: str
    amount: str
    beneficiary_iban: str
    beneficiary_name: str
    remittance: str = ""


@strawberry.input
class CancelInput:
    """What is to be taken back."""

    idempotency_key: str
    id: strawberry.ID


@strawberry.input
class AssertionInput:
    """What a browser hands back beside a passkey's signature, each in base64url without padding."""

    credential_id: str
    authenticator_data: str
    client_data_json: str


@strawberry.input
class DecideApprovalInput:
    """An approver's signed word about a withdrawal. The signature covers the word, the intent's digest and the approver set's
    version; `webauthn` comes with a passkey's signature only."""

    idempotency_key: str
    id: strawberry.ID
    approver: str
    public_key: str
    decision: Word
    signature: str
    webauthn: AssertionInput | None = None

    def read(self) -> Decision:
        """The decision as it was sent. Raises ValidationError, InvalidDecision when its evidence is no base64url."""
        body = checked(
            approvals.DecisionIn,
            approver=self.approver,
            public_key=self.public_key,
            decision=self.decision.value,
            signature=self.signature,
            webauthn=None if self.webauthn is None else vars(self.webauthn),
        )
        return approvals.read_decision(body)


@strawberry.interface
class Payload:
    """What came of a mutation."""

    status: MutationStatus
    errors: list[MutationError]


@strawberry.type
class CustomerPayload(Payload):
    """What came of it; the customer is null where it was refused."""

    customer: Customer | None = None


@strawberry.type
class WalletPayload(Payload):
    """What came of it; the wallet is null where it was refused."""

    wallet: Wallet | None = None


@strawberry.type
class AddressPayload(Payload):
    """What came of it; the address is null where it was refused."""

    address: DepositAddress | None = None


@strawberry.type
class TransferPayload(Payload):
    """What came of it; the transfer is null where it was refused."""

    transfer: Transfer | None = None


@strawberry.type
class WithdrawalPayload(Payload):
    """What came of it; the withdrawal is null where it was refused."""

    withdrawal: Withdrawal | None = None


@strawberry.type
class PayoutPayload(Payload):
    """What came of it; the payout is null where it was refused."""

    payout: Payout | None = None
