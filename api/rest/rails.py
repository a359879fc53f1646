"""Where banks and providers call back. No API key: the rail's adapter verifies its signature over the raw bytes.

A callback is a fact to verify, not an order: what it says is compared with what we asked before anything moves.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from pydantic import Field

from api.deps import app_of, rails_of
from api.rest.shapes import Out, problems
from custody.kernel.errors import NotFound
from rails import intake

router = APIRouter(prefix="/v1/rails", tags=["rails"])


class NoSuchRail(NotFound):
    """No rail of this name is configured."""

    code = "no_such_rail"
    public = "No such rail."


class CallbackOut(Out):
    """The callback was understood; it need not be sent again."""

    received: int = Field(description="How many facts it held.", examples=[1])


@router.post("/{rail}/callbacks", responses=problems(400, 404, 409, 413))
async def receive_callback(
    request: Request, rail: Annotated[str, Path(max_length=32, examples=["sandbox"])]
) -> CallbackOut:
    """Take a rail's signed callback. The same callback again changes nothing."""
    known = rails_of(request)
    if rail not in known.ids:
        raise NoSuchRail(rail=rail)
    observations = known.get(rail).parse_callback(dict(request.headers), await request.body())
    app = app_of(request)
    await intake.apply(app.db, app.clock, observations)
    return CallbackOut(received=len(observations))
