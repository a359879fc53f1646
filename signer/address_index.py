"""An organisation's keys by their addresses: whoever sweeps to a key of ours names it so, and there may be a million of them.

The index catches up with the keys when it is asked: neither a start pays for it, nor a signer that never sweeps. Keys only
ever join their organisation; where a key may be used, and whether it still may, is looked up in the state by whoever asked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class AddressIndex:
    """The keys of one organisation."""

    _ids: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Address to the ids of the keys that have it, oldest first: nearly always one."""
    _known: int = 0
    """How many of the organisation's keys are in `_ids`."""

    def find(self, key_ids: Sequence[str], address_of: Callable[[str], str], address: str) -> tuple[str, ...]:
        """Return the keys at this address. `key_ids` are all of the organisation's, oldest first."""
        for key_id in key_ids[self._known :]:
            place = address_of(key_id)
            self._ids[place] = (*self._ids.get(place, ()), key_id)
        self._known = len(key_ids)
        return self._ids.get(address, ())
