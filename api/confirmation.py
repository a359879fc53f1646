"""What a person confirms with a passkey: one command as it was sent, in one spelling, and what the documentation says of it."""

from __future__ import annotations

from urllib.parse import quote

from fastapi import Request

from api.strict_json import canonical
from custody.identity.model import Principal


async def action_of(request: Request, principal: Principal) -> str:
    """Canonical JSON of a command: the same whenever the same person sends the same body there under the same key.

    `does` is the first sentence that the route's documentation says. Raises MalformedBody, DuplicateKey.
    """
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
        "body": await request.json() if await request.body() else None,
    }
    return canonical(said).decode()
