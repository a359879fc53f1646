"""What can be wrong with a payout."""

from __future__ import annotations

from custody.kernel.errors import Conflict, InvalidInput, NotFound


class UnknownPayout(NotFound):
    """No such payout."""

    code = "unknown_payout"
    public = "No such payout."


class UnknownReference(NotFound):
    """A rail reports a payment under a reference that this tenant never sent."""

    code = "unknown_payout_reference"
    public = "No payout was sent under this reference."


class PayoutExistsDifferent(Conflict):
    """The id is taken by a payout with other content."""

    code = "payout_exists_different"
    public = "A payout with this id and other content exists."


class WrongCurrency(InvalidInput):
    """The amount is not in the currency of the bank account that is to pay."""

    code = "wrong_currency"
    public = "The bank account is kept in another currency."


class BadPaymentText(InvalidInput):
    """A name or remittance text is empty, too long, or has characters that banks do not carry."""

    code = "bad_payment_text"
    public = "Names have 1 to 70 and remittance texts up to 140 characters, out of a-z A-Z 0-9 / - ? : ( ) . , ' + and space."


class BeneficiaryIsOurselves(InvalidInput):
    """The beneficiary is the very account that is to pay."""

    code = "beneficiary_is_payer"
    public = "The beneficiary's account is the paying account."
