"""The rails of an installation, by the names that its settings give them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from custody.banking.model import BankStatement
from custody.settings import RailSettings
from rails.base import Rail, UnknownRail
from rails.sandbox.adapter import SandboxRail
from rails.tls import build_context


class RailRegistry:
    """All configured rails. Also what reconciliation reads statements through (`custody.recon.ports.BankStatements`)."""

    def __init__(self, rails: Mapping[str, Rail]) -> None:
        """By rail id."""
        self._rails = dict(rails)

    @property
    def ids(self) -> tuple[str, ...]:
        """The names of all rails."""
        return tuple(self._rails)

    def get(self, rail_id: str) -> Rail:
        """The rail of this name. Raises UnknownRail."""
        rail = self._rails.get(rail_id)
        if rail is None:
            raise UnknownRail(rail=rail_id[:64])
        return rail

    async def statement(self, rail_id: str, iban: str, first: date, last: date) -> BankStatement:
        """What the bank behind a rail booked on our account. Raises UnknownRail, RailUnavailable."""
        return await self.get(rail_id).statement(iban, first, last)

    async def aclose(self) -> None:
        """Let every connection go."""
        for rail in self._rails.values():
            await rail.aclose()


def build_rails(settings: Mapping[str, RailSettings]) -> RailRegistry:
    """The rails that these settings describe. Nothing connects before it is first used."""
    built: dict[str, Rail] = {}
    for rail_id, chosen in settings.items():
        match chosen.kind:
            case "sandbox":
                built[rail_id] = SandboxRail(
                    rail_id,
                    base_url=chosen.base_url,
                    callback_secret=chosen.callback_secret.get_secret_value(),
                    timeout_s=chosen.timeout_s,
                    tls=None if chosen.tls is None else build_context(chosen.tls),
                )
    return RailRegistry(built)
