"""What a person confirms with a passkey: one command as it was sent, in one spelling, and what the documentation says of it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.exceptions import RequestValidationError

from api.strict_json import canonical
from custody.identity.model import Principal


async def action_of(request: Request, principal: Principal) -> str:
    """Canonical JSON of a command: the same whenever the same person sends the same body there under the same key.

    `does` is the first sentence that the route's documentation says. A body that the route would not take is refused here, before
    anything of it is kept for a person to read: it might hold what was never meant to be sent.

    Raises MalformedBody, DuplicateKey, RequestValidationError.
    """
    body = await request.json() if await request.body() else None
    _demand_taken(request, body)
    # Quoted, so that nothing in a path reads as a query, and nothing is in it that the audit log could not keep.
    path, query = quote(request.scope["path"]), request.url.query
    described = str(getattr(request.scope.get("route"), "description", ""))
    said = {
        "v": "1",
        "subject": principal.subject,
        "method": request.method,
        "path": f"{path}?{query}" if query else path,
        "does": described.partition("\n")[0],
        "key": request.headers.get("idempotency-key", ""),
        "body": body,
    }
    return canonical(said).decode()


def _demand_taken(request: Request, body: Any) -> None:
    field = getattr(request.scope.get("route"), "body_field", None)
    if field is None or body is None:
        return  # a body that is missing has nothing to keep; the framework refuses it
    _, errors = field.validate(body, {}, loc=("body",))
    if errors:
        raise RequestValidationError(errors, body=None)
