"""What transfers between wallets refuse."""

from __future__ import annotations

from custody.kernel.errors import InvalidInput, NotFound


class UnknownTransfer(NotFound):
    """No such transfer between wallets of this tenant."""

    code = "unknown_transfer"
    public = "No such transfer."


class UnknownWalletsInBulk(NotFound):
    """Some of many transfers name wallets that this tenant does not have. `places` are the first of them, from 0."""

    code = "unknown_wallet"
    public = "Some of the transfers name a wallet that does not exist."


class UnknownBulk(NotFound):
    """No such request for many transfers of this tenant."""

    code = "unknown_bulk_transfer"
    public = "No such bulk transfer."


class SameWallet(InvalidInput):
    """Source and destination are one wallet."""

    code = "same_wallet"
    public = "Source and destination are the same wallet."
