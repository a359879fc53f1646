"""Executes prepared documents and shows what came of it, the same way for every transport."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from graphql import ExecutionResult, GraphQLError, GraphQLSchema
from graphql.execution.values import get_variable_values

from api.errors import detail_of
from api.graphql.context import Context
from api.graphql.documents import ERRORS_MAX, Documents, Prepared
from api.graphql.plans import Plans
from api.graphql.schema import build_core, build_documents, build_schema
from custody.kernel.errors import CustodyError, InvariantViolated
from custody.settings import ApiSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The schema of one process with its documents."""

    core: GraphQLSchema
    """What is executed."""
    documents: Documents
    """What may be."""
    plans: Plans
    """How it is."""

    @classmethod
    def build(cls, chosen: ApiSettings) -> Graph:
        """By these settings. Raises BrokenRegistry."""
        core = build_core(build_schema())
        return cls(core=core, documents=build_documents(core, chosen), plans=Plans(core))

    async def run(
        self,
        prepared: Prepared,
        context: Context,
        variables: Mapping[str, Any] | None,
        operation: str | None,
        root: object = None,
    ) -> ExecutionResult:
        """The answer to a query or mutation, or to one event of a subscription. Raises UnknownOperation."""
        if prepared.document is None or prepared.errors:
            return prepared.refusal
        definition = prepared.definition(operation)
        coerced = get_variable_values(
            self.core,
            definition.variable_definitions or (),
            dict(variables or {}),
            max_errors=ERRORS_MAX,
            hide_suggestions=True,
        )
        if isinstance(coerced, list):
            return ExecutionResult(None, coerced)
        try:
            plan = self.plans.find(prepared.fragments, definition, prepared.chosen_by, coerced)
        except GraphQLError as error:
            return ExecutionResult(None, [error])  # before anything was done
        return await plan.run(context, coerced, root)


def show_result(result: ExecutionResult, trace_id: str) -> tuple[dict[str, object], bool]:
    """The answer as clients see it, and whether it was executed at all."""
    answer: dict[str, object] = {}
    if result.errors:
        answer["errors"] = [show_error(error, trace_id) for error in result.errors]
    executed = not result.errors or any(error.path is not None for error in result.errors)
    if executed:
        answer["data"] = result.data
    return answer, executed


def show_error(error: GraphQLError, trace_id: str) -> dict[str, object]:
    """An error with a code to branch on: what is wrong with a query in full, what is wrong with us as a code and a trace id."""
    shown: dict[str, object] = {}
    if error.path:
        shown["path"] = error.path
    if error.locations:
        shown["locations"] = [{"line": place.line, "column": place.column} for place in error.locations]
    cause = error.original_error
    extensions: dict[str, object] = {"trace_id": trace_id}
    match cause:
        case None | GraphQLError():  # the latter for an argument that is no value of its type
            shown["message"] = error.message
            extensions["code"] = (error.extensions or {}).get("code", "invalid_query")
        case CustodyError() if not isinstance(cause, InvariantViolated):
            shown["message"] = detail_of(cause)
            extensions |= {"code": cause.code, "retryable": cause.retryable}
        case _:
            structlog.get_logger().error("graphql.failed", error_type=type(cause).__name__, exc_info=cause)
            shown["message"] = "Something unexpected happened on our side."
            extensions["code"] = "internal_error"
    return {**shown, "extensions": extensions}


def show_refusal(cause: CustodyError, trace_id: str) -> dict[str, object]:
    """An expected error that no field is to blame for."""
    return show_error(GraphQLError(str(cause), original_error=cause), trace_id)
