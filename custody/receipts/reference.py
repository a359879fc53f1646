"""References that a payer types into a bank form, with check digits so that a slip of the finger is noticed.

Source: ISO 11649 (structured creditor reference): `RF`, two check digits by ISO 7064 mod 97-10, up to 21 characters.
"""

from __future__ import annotations

import re
import secrets

_DIGITS = 18
_LONGEST = 25
"""Characters of the longest reference."""
_FORM = re.compile(r"RF[0-9]{2}[0-9A-Z]{1,21}")


def new_reference() -> str:
    """A fresh reference: 18 random digits behind the check digits.

    Digits only, because then every single wrong digit and every swap of neighbours is noticed; a letter typed for a digit is not.
    """
    return build_reference(f"{secrets.randbelow(10**_DIGITS):0{_DIGITS}d}")


def build_reference(body: str) -> str:
    """The reference with this body (1 to 21 upper-case letters and digits)."""
    return f"RF{98 - _remainder(body + 'RF00'):02d}{body}"


def is_reference(text: str) -> bool:
    """Whether the text is a reference with right check digits."""
    return _FORM.fullmatch(text) is not None and _remainder(text[4:] + text[:4]) == 1


def find_references(remittance: str) -> tuple[str, ...]:
    """Every valid reference in a payer's text, in order, each once.

    Banks and people insert spaces and change case: `RF18 5390 0754` and `rf1853900754` are the same reference. Words are
    therefore joined onwards from each RF for as long as the result can be a reference.
    """
    words = re.findall(r"[0-9A-Z]+", remittance.upper())
    found: dict[str, None] = {}
    for start, word in enumerate(words):
        if not word.startswith("RF"):
            continue
        joined = ""
        for piece in words[start : start + _LONGEST]:
            joined += piece
            if len(joined) > _LONGEST:
                break
            if is_reference(joined):
                found[joined] = None
    return tuple(found)


def _remainder(text: str) -> int:
    return int("".join(str(int(character, 36)) for character in text)) % 97
