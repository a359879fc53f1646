"""Refusals and broken invariants of deposits and of vaults that receive them."""

from __future__ import annotations

from custody.kernel.errors import Conflict, InvariantViolated, NotFound


class UnknownDeposit(NotFound):
    """No such deposit of this tenant."""

    code = "unknown_deposit"
    public = "No such deposit."


class DepositExistsDifferent(InvariantViolated):
    """The same transaction and ordinal were seen with another content: the chain or the reader contradicts itself."""

    code = "deposit_exists_different"
    public = "A deposit was observed twice with different content."


class RequestExistsDifferent(Conflict):
    """The request id was used for another vault or address."""

    code = "vault_request_exists_different"
    public = "This request id was already used for something else."


class KeyNotOurs(InvariantViolated):
    """The account that the signer names does not belong to the public key that it names."""

    code = "key_account_mismatch"
    public = "The signer's key and its account do not fit together."


class CreditSpent(InvariantViolated):
    """A reorganisation below finality takes back money that its wallet has already used: only a person can settle it."""

    code = "deposit_credit_spent"
    public = "A deposit was reversed by its chain after the money was used."
