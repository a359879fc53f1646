"""One JSON line per event on standard error. Names, codes and digests only: no intents, signatures, PINs or key material."""

import json
import sys
from datetime import UTC, datetime


def log_event(event: str, **fields: str | int) -> None:
    """Write the event with its fields."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    sys.stderr.write(json.dumps({"at": at, "event": event, **fields}) + "\n")
    sys.stderr.flush()
