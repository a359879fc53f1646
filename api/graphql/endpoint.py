"""`POST /graphql`: one strict JSON object in, data and masked errors out.

What is wrong with a query is said in full; what is wrong with us is said as a code and a trace id.
Source: GraphQL over HTTP (draft): a request that cannot be executed is answered 400, an executed one 200.
"""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request
from graphql import OperationType
from pydantic import Field
from starlette.responses import Response

from api.auth import Caller, bearer_of, requires
from api.errors import trace_id_of
from api.graphql.event_stream import EVENT_STREAM, event, stream
from api.graphql.execution import Graph, show_result
from api.graphql.live import Watch
from api.graphql.once import answer_once
from api.graphql.streams import Streams
from api.rest.shapes import In, problems
from api.strict_json import StrictRoute
from custody.kernel.errors import InvalidInput

router = APIRouter(tags=["graphql"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("graphql:query"))]
GRAPHQL_MEDIA_TYPE = "application/graphql-response+json"

_EXAMPLE = "{ chains { chain cursorHeight lagBlocks } }"


class GraphQLIn(In):
    """A GraphQL request: a document, or the hash of a trusted one as `documentId` or in `extensions.persistedQuery`."""

    query: Annotated[str | None, Field(min_length=1, max_length=20_000, examples=[_EXAMPLE])] = None
    document_id: Annotated[
        str | None,
        Field(
            alias="documentId",
            pattern=r"^sha256:[0-9a-f]{64}$",
            description="`sha256:` and the hash of a trusted document's text.",
        ),
    ] = None
    variables: dict[str, Any] | None = None
    operation_name: Annotated[str | None, Field(alias="operationName", max_length=200)] = None
    extensions: dict[str, Any] | None = None

    @property
    def named(self) -> str | None:
        """The hash that is named. Raises MalformedExtension."""
        if self.document_id is not None:
            return self.document_id.removeprefix("sha256:")
        asked = (self.extensions or {}).get("persistedQuery")
        if asked is None:
            return None
        found = asked.get("sha256Hash") if isinstance(asked, dict) else None
        if not isinstance(found, str):
            raise MalformedExtension
        return found.lower()


class MalformedExtension(InvalidInput):
    """`extensions.persistedQuery` names no hash."""

    code = "malformed_extension"
    public = "extensions.persistedQuery.sha256Hash must be the SHA-256 of a document, in hexadecimal."


class NotHere(InvalidInput):
    """A subscription is asked for like a query."""

    code = "subscription_needs_stream"
    public = "Subscriptions are served over WebSocket, or with `Accept: text/event-stream`."


@router.post("/graphql", response_class=Response, responses=problems(400, 413, 415))
async def graphql(body: GraphQLIn, request: Request, caller: Reader) -> Response:
    """Run one operation. Everything that a query reads is of one snapshot of the database. With `Accept: text/event-stream` the
    answer is a stream of events `next` and `complete`, which is how subscriptions are watched without a WebSocket."""
    streams: Streams = request.app.state.streams
    graph: Graph = request.app.state.graphql
    streamed = EVENT_STREAM in request.headers.get("accept", "")
    prepared = graph.documents.find(body.query, body.named)
    trace_id = trace_id_of(request)
    if prepared.errors:
        return _answer(request, *show_result(prepared.refusal, trace_id))
    if prepared.operation(body.operation_name) is OperationType.SUBSCRIPTION:
        if not streamed:
            raise NotHere
        wanted = Watch(
            caller=caller,
            prepared=prepared,
            variables=body.variables or {},
            operation=body.operation_name,
            trace_id=trace_id,
            after=request.headers.get("last-event-id"),
        )
        return stream(streams, wanted, bearer_of(request))
    shown, executed = await answer_once(
        graph, prepared, caller, body.variables, body.operation_name, trace_id
    )
    if streamed:
        return Response(event("next", orjson.dumps(shown)) + event("complete"), media_type=EVENT_STREAM)
    return _answer(request, shown, executed)


def _answer(request: Request, answer: dict[str, object], executed: bool) -> Response:  # noqa: FBT001 - both halves of one value
    graphql_client = GRAPHQL_MEDIA_TYPE in request.headers.get("accept", "")
    media_type = GRAPHQL_MEDIA_TYPE if graphql_client else "application/json"
    return Response(orjson.dumps(answer), 200 if executed else 400, media_type=media_type)
