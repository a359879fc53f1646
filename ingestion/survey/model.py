"""What a survey comes to. Frozen values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed:
    """What one step came to."""

    asked: int = 0
    """Balances that were asked for."""
    found: int = 0
    """Holdings that differed from what their blocks had left."""
    height: int = -1
    """The final block at which they were compared; -1 when there was nothing to do."""
    is_last: bool = False
    """Whether the pass over all accounts has ended with it."""
