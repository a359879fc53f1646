"""What transfers between wallets refuse."""

from __future__ import annotations

from custody.kernel.errors import InvalidInput, NotFound


class UnknownTransfer(NotFound):
    """No such transfer between wallets of this tenant."""

    code = "unknown_transfer"
    public = "No such transfer."


class SameWallet(InvalidInput):
    """Source and destination are one wallet."""

    code = "same_wallet"
    public = "Source and destination are the same wallet."
