"""Refusals of the asset register."""

from __future__ import annotations

from custody.kernel.errors import Conflict, InvalidInput


class UnknownAsset(InvalidInput):
    """The asset is not listed here."""

    code = "unknown_asset"
    public = "The asset is not listed."


class AssetExistsDifferent(Conflict):
    """The asset is listed with another code or other decimals, which never change."""

    code = "asset_exists_different"
    public = "The asset is already listed with another code or scale."
