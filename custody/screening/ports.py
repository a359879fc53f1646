"""What screening needs from outside. `custody.screening.provider.HttpScreener` fulfils it; tests have a fake that passes the same
contract suite.
"""

from __future__ import annotations

from typing import Protocol

from custody.screening.model import Answer, Question


class Screener(Protocol):
    """Somebody outside who knows about receivers."""

    @property
    def name(self) -> str:
        """Under which its answers are kept."""
        ...

    async def screen(self, question: Question) -> Answer:
        """What it says, for the first time or again. Raises nothing: whatever is not its own clear word is UNKNOWN."""
        ...

    async def aclose(self) -> None:
        """Let its connections go."""
        ...
