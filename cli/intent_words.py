"""Intents as people read them: every field, amounts with their unit, and nothing that could repaint a terminal. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime

from signer.protocol import canonical
from signer.protocol.intent import Intent

_STROOPS = 7
_WEI = 18
_GWEI = 9
_ASSET_OF: Mapping[str, str] = {
    "amount": "asset",
    "limit": "asset",
    "send_amount": "send_asset",
    "send_max": "send_asset",
    "dest_amount": "dest_asset",
    "dest_min": "dest_asset",
}
"""Fields that hold an amount, and the field that says of what."""
_MEANS: Mapping[str, str] = {
    "stellar_create_claimable_balance": "set aside on chain until the destination, which alone can, claims it; it cannot be "
    "taken back, and half a lumen of the source stays locked until then",
}
"""What the name of a kind does not say and its fields do not show."""


def describe(intent: Intent) -> list[tuple[str, str]]:
    """Return all fields of the intent in the order of its class, as people read them, after what its kind means. Pure."""
    kind = canonical.kind_of(intent)
    means = [("means", _MEANS[kind])] if kind in _MEANS else []
    words = [
        (field.name, _in_words(intent, field.name, getattr(intent, field.name))) for field in fields(intent)
    ]
    return [("kind", kind), *means, *words]


def _in_words(intent: Intent, name: str, value: str | int) -> str:
    if isinstance(value, str):
        return f'"{value}"' if name in ("memo", "text") else value
    if name in ("not_before", "expires_at"):
        return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M:%S} UTC ({value})"
    if name in _ASSET_OF:
        asset = getattr(intent, _ASSET_OF[name], "")
        return amount_in_words(intent.chain, str(getattr(intent, "token", asset)), value)
    if name == "max_fee":
        return f"{units(value, _STROOPS)} XLM ({value} stroops)"
    return f"{units(value, _GWEI)} gwei ({value} wei)" if name.endswith("_per_gas") else str(value)


def amount_in_words(chain: str, asset: str, value: int) -> str:
    """Return an amount with its unit; an intent without a field for the asset speaks of the chain's own coin."""
    if chain.startswith("stellar:"):
        unit = "XLM" if asset in ("", "native") else asset
        return f"{units(value, _STROOPS)} {unit} ({value} stroops)"
    if asset not in ("", "native"):
        return f"{value} atomic units of token {asset}"
    return f"{units(value, _WEI)} of the native coin ({value} wei)"


def units(atomic: int, decimals: int) -> str:
    """Return a number with its point."""
    whole, rest = divmod(atomic, 10**decimals)
    return f"{whole}.{rest:0{decimals}d}"


def plain(value: object) -> str:
    """Return text from outside without control characters, so that it cannot repaint the terminal."""
    return "".join(letter for letter in str(value) if letter.isascii() and letter.isprintable())[:200]
