"""The one place that judges account numbers. Source: ISO 13616, by the registry that schwifty carries."""

from __future__ import annotations

from schwifty import IBAN
from schwifty.exceptions import SchwiftyException

from custody.banking.errors import InvalidIban


def parse_iban(text: str) -> str:
    """The electronic form (upper case, no spaces) of a valid IBAN. Raises InvalidIban with the reason's name."""
    if len(text) > 64:
        raise InvalidIban(reason="InvalidLength")
    try:
        return str(IBAN(text))
    except SchwiftyException as wrong:
        raise InvalidIban(reason=type(wrong).__name__) from wrong
