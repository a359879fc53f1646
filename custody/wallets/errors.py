"""Refusals about customers, wallets, vaults and addresses."""

from __future__ import annotations

from custody.kernel.errors import Conflict, InvalidInput, InvariantViolated, NotFound, Unavailable


class UnknownCustomer(NotFound):
    """No such customer of this tenant."""

    code = "unknown_customer"
    public = "No such customer."


class UnknownWallet(NotFound):
    """No such wallet of this tenant."""

    code = "unknown_wallet"
    public = "No such wallet."


class UnknownVault(NotFound):
    """No such vault of this tenant."""

    code = "unknown_vault"
    public = "No such vault."


class NoOmnibusVault(Conflict):
    """The tenant has not set up an omnibus vault on this chain."""

    code = "no_omnibus_vault"
    public = "There is no omnibus vault on this chain yet; create one first."


class CustomerExistsDifferent(Conflict):
    """The external reference belongs to a customer with another name or kind."""

    code = "customer_exists_different"
    public = "A customer with this external reference already exists and differs."


class BadName(InvalidInput):
    """A name is empty, too long, or has control characters."""

    code = "bad_name"
    public = "A name has 1 to 200 printable characters."


class MemoTaken(Conflict):
    """The memo already names a wallet at this vault."""

    code = "memo_taken"
    public = "This memo already names a wallet."


class MemosNotKnown(InvalidInput):
    """Only Stellar payments carry memos."""

    code = "memos_not_known"
    public = "Addresses of this chain carry no memo."


class DepositPoolEmpty(Unavailable):
    """No key is ready for a new deposit address. The worker asks the signer for more; nothing was changed."""

    code = "deposit_pool_empty"
    public = "No deposit address is ready at this moment; repeat the call with the same key."


class KeyNotFree(Conflict):
    """The key is no free one of this tenant's pool."""

    code = "deposit_key_not_free"
    public = "This key is not waiting in the pool."


class KeyNotVouchedFor(InvariantViolated):
    """The signer does not vouch for a key in the pool: somebody else put it there, and would get the deposits. No address is
    given out before an operator has set it aside."""

    code = "deposit_key_not_vouched_for"


class AccountTaken(InvariantViolated):
    """Two vaults would share one account on one chain."""

    code = "account_taken"
    public = "The account already belongs to another vault."
