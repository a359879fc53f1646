"""JSON from outside, before any parser touches it: how deep it nests.

Python's own parser descends on the machine's stack and relies on the interpreter's recursion limit to stop. Libraries that we use
raise that limit (py_ecc, imported by eth-account, to 100 000), and then a body of a few hundred kilobytes ends the process.
"""

from __future__ import annotations

import re

NESTING_MAX = 64
"""Lists and objects within one another. What we speak needs fewer than ten."""

_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
"""A string, or what is left of the text after an unclosed quote. Possessive, so that no text makes it go back."""
_BRACKET = re.compile(r"[\[\]{}]")


def nests_too_deeply(text: str, most: int = NESTING_MAX) -> bool:
    """Whether lists and objects nest deeper than `most`. In one pass, for text that may be no JSON at all."""
    if text.count("[") + text.count("{") <= most:
        return False
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > most:
            return True
    return False
