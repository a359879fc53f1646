"""Refusals of reconciliation."""

from __future__ import annotations

from custody.kernel.errors import NotFound


class NeverCompared(NotFound):
    """No block that we read has touched this vault's asset, so that there is nothing to compare."""

    code = "never_compared"
    public = "Books and chain of this vault and asset have not been compared yet."
