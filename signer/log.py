"""One JSON line per event on standard error. Names, codes and digests only: no intents, signatures, PINs or key material."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime


def log_event(event: str, **fields: str | int) -> None:
    """Write the event with its fields."""
    log_events([{"event": event, **fields}])


def log_events(events: Sequence[Mapping[str, str | int]]) -> None:
    """Write events that came about together, in one go."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    sys.stderr.write("".join([json.dumps({"at": at, **event}) + "\n" for event in events]))
    sys.stderr.flush()
