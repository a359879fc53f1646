"""`POST /graphql`: one strict JSON object in, data and masked errors out.

Read-only; actions are REST. What is wrong with a query is said in full; what is wrong with us is said as a code and a trace id.
Source: GraphQL over HTTP (draft): a request that cannot be executed is answered 400, an executed one 200.
"""

from __future__ import annotations

from typing import Annotated, Any

import orjson
import strawberry
import structlog
from fastapi import APIRouter, Depends, Request
from graphql import GraphQLError
from pydantic import Field
from starlette.responses import Response
from strawberry.schema.exceptions import CannotGetOperationTypeError

from api.auth import Caller, requires
from api.chain_status import ask_heads
from api.errors import detail_of, trace_id_of
from api.graphql.context import Context
from api.rest.shapes import In, problems
from api.strict_json import StrictRoute
from custody.kernel.errors import CustodyError, InvalidInput, InvariantViolated

router = APIRouter(tags=["graphql"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("graphql:query"))]
GRAPHQL_MEDIA_TYPE = "application/graphql-response+json"

_EXAMPLE = "{ chains { chain cursorHeight lagBlocks } }"


class UnknownOperation(InvalidInput):
    """The document has no operation of this name, or several and none is named."""

    code = "unknown_operation"
    public = "The document has no such operation, or several of which none is named."


class GraphQLIn(In):
    """A GraphQL request."""

    query: Annotated[str, Field(min_length=1, max_length=20_000, examples=[_EXAMPLE])]
    variables: dict[str, Any] | None = None
    operation_name: Annotated[str | None, Field(alias="operationName", max_length=200)] = None
    extensions: dict[str, Any] | None = None


@router.post("/graphql", response_class=Response, responses=problems(400, 413, 415))
async def graphql(body: GraphQLIn, request: Request, caller: Reader) -> Response:
    """Run one query. Everything it reads is of one snapshot of the database."""
    schema: strawberry.Schema = request.app.state.graphql
    # Asked before the transaction begins, and only when the document can want it: no network call runs inside one.
    heads = await ask_heads(caller.app) if "chains" in body.query else {}
    async with caller.read() as session:
        context = Context(caller, session, heads)
        try:
            result = await schema.execute(
                body.query,
                variable_values=body.variables,
                operation_name=body.operation_name,
                context_value=context,
            )
        except CannotGetOperationTypeError as error:
            raise UnknownOperation(operation=body.operation_name) from error
        finally:
            await context.close()
    answer: dict[str, object] = {}
    if result.errors:
        trace_id = trace_id_of(request)
        answer["errors"] = [_masked(error, trace_id) for error in result.errors]
    refused = bool(result.errors) and all(error.path is None for error in result.errors or ())
    if not refused:
        answer["data"] = result.data
    return Response(orjson.dumps(answer), 400 if refused else 200, media_type=_media_type(request))


def _masked(error: GraphQLError, trace_id: str) -> dict[str, object]:
    """An error as clients see it, with a code to branch on."""
    shown: dict[str, object] = {}
    if error.path:
        shown["path"] = error.path
    if error.locations:
        shown["locations"] = [{"line": place.line, "column": place.column} for place in error.locations]
    cause = error.original_error
    extensions: dict[str, object] = {"trace_id": trace_id}
    match cause:
        case None:
            shown["message"] = error.message
            extensions["code"] = "invalid_query"
        case CustodyError() if not isinstance(cause, InvariantViolated):
            shown["message"] = detail_of(cause)
            extensions |= {"code": cause.code, "retryable": cause.retryable}
        case _:
            structlog.get_logger().error("graphql.failed", error_type=type(cause).__name__, exc_info=cause)
            shown["message"] = "Something unexpected happened on our side."
            extensions["code"] = "internal_error"
    return {**shown, "extensions": extensions}


def _media_type(request: Request) -> str:
    return (
        GRAPHQL_MEDIA_TYPE if GRAPHQL_MEDIA_TYPE in request.headers.get("accept", "") else "application/json"
    )
