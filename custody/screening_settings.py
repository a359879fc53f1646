"""The settings of the outside screener: whom we ask about receivers, and how long it may take."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator

from custody.chain_settings import Section


class ScreeningSettings(Section):
    """Whom to ask about receivers beside the tenant's own list. Without this section nobody else is asked."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")
    """Under which its answers are kept."""
    url: str = Field(pattern=r"^https?://")
    """Where questions are posted to."""
    token: SecretStr
    """Sent as a bearer token."""
    timeout_s: int = Field(default=5, ge=1, le=60)
    """After so long without an answer, nothing is known."""
    stuck_after_s: int = Field(default=300, ge=1)
    """A withdrawal of which nothing is known after so long is shown as stuck. It goes on being asked about."""

    @field_validator("name")
    @classmethod
    def is_not_the_list(cls, name: str) -> str:
        """What the tenant's own list says is kept under that name."""
        if name == "list":
            raise ValueError("`list` is the name of the tenant's own list")
        return name
