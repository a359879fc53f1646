"""What REST bodies are made of: strict models, parsers from shown text to domain values, and the shared documentation.

Request models refuse unknown fields and never convert (a number is not a string). Amounts are strings of atomic units, next to
the asset's id and decimals, so that no client's float ever touches money.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.errors import Problem, at
from api.paging import PAGE_DEFAULT, PAGE_MAX
from custody.assets import service as assets
from custody.assets.model import Asset
from custody.chains.errors import UnsupportedChain
from custody.db.session import ReadSession
from custody.kernel.assetid import ChainId, parse_asset_id, parse_chain_id
from custody.kernel.errors import InvalidInput
from custody.kernel.ids import parse_id
from custody.kernel.money import Amount, format_units, parse_positive


class In(BaseModel):
    """A request body."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Empty(In):
    """A body for commands that need no words: absent, or an object without fields."""


class Out(BaseModel):
    """A response body."""

    model_config = ConfigDict(frozen=True)


Item = TypeVar("Item")


class PageOut(Out, Generic[Item]):
    """One page of a list."""

    data: list[Item]
    next_cursor: str | None = Field(
        description="Give this as `cursor` to go on; null at the end of the list."
    )


def show(body: BaseModel, status: int = 200) -> Response:
    """The response that carries a body, written once: for reads that are asked often enough to count."""
    return Response(body.model_dump_json().encode(), status, media_type="application/json")


Cursor = Annotated[
    str | None,
    Query(max_length=256, description="`next_cursor` of the page before. Without it the list begins."),
]
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX, description="How many rows at most.")]
LIMIT_DEFAULT = PAGE_DEFAULT

AssetText = Annotated[
    str,
    Field(
        max_length=160,
        description="Asset id: chain and reference.",
        examples=["stellar:devnet/native", "eip155:31337/native", "fiat/EUR"],
    ),
]
AssetPath = Annotated[
    str,
    Path(
        max_length=160,
        description="Asset id, its slash as it is or as %2F.",
        examples=["stellar:devnet/native"],
    ),
]
AtomicText = Annotated[
    str,
    Field(
        max_length=80,
        description="Atomic units (stroops, wei, cents) as a string of digits: no sign, point, exponent or leading zero.",
        examples=["2500000"],
    ),
]
ShownId = Annotated[str, Field(max_length=40)]
Moment = Annotated[str, Field(max_length=40, description="RFC 3339, with its offset from UTC.")]
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?(Z|[+-]\d{2}:\d{2})")


class MalformedMoment(InvalidInput):
    """The text is no RFC 3339 date and time with an offset."""

    code = "malformed_moment"
    public = "A moment is written as RFC 3339, with its offset from UTC."


class AmountOut(Out):
    """So much of one asset."""

    asset: AssetText
    decimals: int = Field(description="Atomic units are 10^-decimals of one unit.", examples=[7])
    atomic: AtomicText
    display: str = Field(description="The same for people, with all decimals.", examples=["0.2500000"])


def show_amount(asset: Asset, atomic: int) -> AmountOut:
    """An amount as responses carry it."""
    return AmountOut(
        asset=asset.id.text,
        decimals=asset.decimals,
        atomic=str(atomic),
        display=format_units(atomic, asset.decimals),
    )


def show_time(value: datetime) -> str:
    """RFC 3339 in UTC."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_chain(clients: Collection[ChainId], text: str) -> ChainId:
    """The configured chain that the field `chain` names. Raises MalformedAssetId, UnsupportedChain, at /chain."""
    with at("/chain"):
        chain = parse_chain_id(text)
        if chain not in clients:
            raise UnsupportedChain(chain=chain)
        return chain


async def load_asset(session: ReadSession, text: str, field: str = "asset") -> Asset:
    """The registered asset that a field names. Raises MalformedAssetId at that field, UnknownAsset."""
    with at(f"/{field}"):
        asset_id = parse_asset_id(text)
    return await assets.get(session, asset_id)


def parse_money(asset: Asset, text: str, field: str = "amount") -> Amount:
    """A field of money: more than zero, in atomic units. Raises MalformedAmount and others, at that field."""
    with at(f"/{field}"):
        return Amount(asset.id, parse_positive(text))


def parse_field_id(prefix: str, text: str, field: str) -> UUID:
    """A shown id in a field of the body. Raises MalformedId at that field."""
    with at(f"/{field}"):
        return parse_id(prefix, text)


def parse_moment(text: str, field: str) -> datetime:
    """A moment in a field of the body, in UTC. Raises MalformedMoment at that field."""
    with at(f"/{field}"):
        if not _MOMENT.fullmatch(text):
            raise MalformedMoment
        try:
            return datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise MalformedMoment from error


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documented refusals of a route: those that every route has, and these."""
    return {
        status: {
            "model": Problem,
            "description": _PROBLEMS[status],
        }
        for status in sorted({401, 403, 422, 500, 503, *statuses})
    }


_PROBLEMS = {
    400: "The body is not JSON, repeats a key, or a required header or a cursor is missing or malformed.",
    401: "No valid API key.",
    403: "The API key lacks the scope.",
    404: "No such object, or not one of this tenant's.",
    409: "The object is not in a state for this, or exists with other content.",
    413: "The body is too large.",
    415: "The body is not declared as application/json.",
    422: "Well-formed and refused: a field is wrong, funds or policy do not allow it, or the key was used for another body.",
    500: "Something unexpected happened on our side.",
    503: "A part that this needs does not answer; repeat with the same key.",
}

COMMAND_PROBLEMS = problems(400, 404, 409, 413, 415)
READ_PROBLEMS = problems(400, 404)
