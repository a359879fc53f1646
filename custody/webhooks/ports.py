"""What sending needs from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Resolver(Protocol):
    """Finds the addresses behind a name. Raises OSError when there are none."""

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """All of them, in the order in which they are to be tried."""
        ...
