"""Refusals of the asset register."""

from __future__ import annotations

from custody.kernel.errors import Conflict, InvalidInput, Refused


class UnknownAsset(InvalidInput):
    """The asset is not listed here."""

    code = "unknown_asset"
    public = "The asset is not listed."


class AssetExistsDifferent(Conflict):
    """The asset is listed with another code or other decimals, which never change."""

    code = "asset_exists_different"
    public = "The asset is already listed with another code or scale."


class TokenNotRead(Refused):
    """The token's contract is not among `token_contracts` of its chain: its transfers would be seen by nobody."""

    code = "token_not_read"
    public = "The token's contract is not among those that this installation reads."


class DecimalsDiffer(Refused):
    """The token's contract says another number of decimals than what was asked for. Once listed they never change."""

    code = "decimals_differ"
    public = "The token's contract names other decimals."
