"""Refusals about idempotency keys."""

from __future__ import annotations

from custody.kernel.errors import Conflict, InvalidInput


class KeyReused(InvalidInput):
    """The key was used before with another request."""

    code = "idempotency_key_reused"
    public = "This idempotency key was already used with a different request."


class KeyInProgress(Conflict):
    """The first request with this key has not finished."""

    code = "idempotency_key_in_progress"
    retryable = True
    public = "A request with this idempotency key is still running."
