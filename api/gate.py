"""One process's door: knows credentials by their form, remembers who was just here, and asks for a passkey where one is due."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable

from custody.bootstrap import App
from custody.identity import clients, own_roles, people, step_up
from custody.identity import service as identity
from custody.identity.cache import PrincipalCache
from custody.identity.errors import InvalidApiKey, MissingScope
from custody.identity.keysets import Keysets
from custody.identity.model import Kind, Principal
from custody.identity.roles import ADMINISTRATIVE, UNATTENDED
from custody.identity.upkeep import Upkeep

_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_ACCESS_TOKEN = re.compile(r"(at|cu)_[A-Za-z0-9_-]{43}")


class Gate:
    """Built once with the application."""

    def __init__(self, app: App) -> None:
        """Nothing is asked before the first request."""
        self._app = app
        self.cache = PrincipalCache(time.monotonic, app.settings.api.key_memory_s)
        self.keysets = Keysets(time.monotonic)
        self.upkeep = Upkeep(app.db, app.clock.now)

    async def identify(self, credential: str) -> Principal:
        """Who presents this. At most one indexed lookup for a key or token, one more where it has a role of the tenant's
        own, none for one that was just here.

        Raises InvalidApiKey, InvalidToken, IssuerUnreachable.
        """
        known = self.cache.find(credential, self._app.clock.now())
        if known is not None:
            return known
        since = self.cache.forgotten
        principal = await own_roles.complete(self._app.db, await self._look_up(credential))
        self.cache.keep(credential, principal, since)
        self.upkeep.note(principal)
        return principal

    async def confirm(
        self, principal: Principal, any_of: tuple[str, ...], action: Callable[[], Awaitable[str]]
    ) -> None:
        """Ask more of whoever wants an administrative permission. `action` tells what a person would confirm.

        Raises MissingScope, StepUpRequired.
        """
        if ADMINISTRATIVE.isdisjoint(any_of):
            return
        if principal.kind is Kind.PERSON:
            await step_up.demand(self._app.db, principal, await action(), self._app.clock.now())
        elif UNATTENDED not in principal.permissions:
            raise MissingScope(permission=UNATTENDED)

    async def _look_up(self, credential: str) -> Principal:
        if _ACCESS_TOKEN.fullmatch(credential):
            found = await clients.identify(self._app.db, credential)
            if found is None:
                raise InvalidApiKey
            return found
        if _JWT.fullmatch(credential):
            return await people.identify(self._app.db, self.keysets, credential)
        return await identity.authenticate(self._app.db, credential)
