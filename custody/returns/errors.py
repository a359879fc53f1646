"""What returns refuse."""

from __future__ import annotations

from custody.kernel.errors import InvalidInput, Refused


class NotTheSender(InvalidInput):
    """A return goes to the account that the money came from. Money for anybody else is assigned to a wallet and withdrawn."""

    code = "not_the_sender"
    public = "A return is paid to the account that the deposit came from."


class NoSender(Refused):
    """The money came from no account that could be paid: it was issued, or left a claimable balance, a pool or a contract."""

    code = "no_sender"
    public = "The deposit did not come from an account that can be paid."
