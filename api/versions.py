"""Which shapes of requests and answers this process speaks, by date.

A client may pin one with the header `Custody-Version`; without it, it gets the newest. A version is never changed once published:
a change that would break somebody gets a new date here, and the old one goes on beside it until it is withdrawn.
"""

from __future__ import annotations

VERSIONS = ("2026-11-01",)
"""Oldest first."""
CURRENT = VERSIONS[-1]
"""What a request gets that names none."""
VERSION_HEADER = "Custody-Version"
