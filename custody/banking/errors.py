"""What can be wrong with a bank account."""

from __future__ import annotations

from custody.kernel.errors import Conflict, InvalidInput, NotFound


class InvalidIban(InvalidInput):
    """The text is not an IBAN: unknown country, wrong length or characters, or wrong check digits."""

    code = "invalid_iban"
    public = "The account number is not a valid IBAN."


class NotABankAsset(InvalidInput):
    """The asset is not money that a bank holds."""

    code = "not_a_bank_asset"
    public = "A bank account is kept in a currency (fiat/EUR), not in an asset of a chain."


class UnknownBankAccount(NotFound):
    """No such account of ours."""

    code = "unknown_bank_account"
    public = "No such bank account."


class BankAccountExistsDifferent(Conflict):
    """The IBAN is already registered on this rail with another currency, or by another tenant."""

    code = "bank_account_exists_different"
    public = "This account number is already registered differently."
