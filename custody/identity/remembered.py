"""Keys that were found valid a moment ago. A revoked key may go on for as long as is remembered, and no longer.

Only hashes are kept, and only of keys that exist: guessing fills no memory.
"""

from __future__ import annotations

import time
from collections import OrderedDict

from custody.db.session import Database
from custody.identity import service, store
from custody.identity.model import Principal

KEYS_MAX = 10_000


class RememberedKeys:
    """The principals of this process's last moments."""

    def __init__(self, memory_s: float) -> None:
        """`memory_s` is how long a key is believed without asking; 0 asks every time."""
        self._memory_s = memory_s
        self._known_until_s: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()

    async def authenticate(self, database: Database, secret: str) -> Principal:
        """As identity's. Raises InvalidApiKey."""
        if self._memory_s == 0:
            return await service.authenticate(database, secret)
        mark = store.hash_secret(secret)
        found, until = self._known_until_s.get(mark, (None, 0.0))
        now = time.monotonic()
        if found is not None and now < until:
            return found
        self._known_until_s.pop(mark, None)
        principal = await service.authenticate(database, secret)
        self._known_until_s[mark] = (principal, now + self._memory_s)
        if len(self._known_until_s) > KEYS_MAX:
            self._known_until_s.popitem(last=False)
        return principal
