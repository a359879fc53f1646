"""A query or a mutation, answered once, whatever it came over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import OperationType

from api.auth import Caller
from api.chain_status import ask_heads
from api.graphql.context import Context
from api.graphql.documents import Prepared
from api.graphql.execution import Graph, show_result


async def answer_once(
    graph: Graph,
    prepared: Prepared,
    caller: Caller,
    variables: Mapping[str, Any] | None,
    operation: str | None,
    trace_id: str,
) -> tuple[dict[str, object], bool]:
    """The answer, and whether it was executed. Everything that a query reads is of one snapshot of the database.

    Raises UnknownOperation.
    """
    if prepared.operation(operation) is not OperationType.QUERY:
        return show_result(await graph.run(prepared, Context(caller), variables, operation), trace_id)
    # Asked before the transaction begins, and only when the document can want it: no network call runs inside one.
    heads = await ask_heads(caller.app) if prepared.asks_nodes else {}
    async with caller.snapshot() as session:
        context = Context(caller, session, heads, asks_fees=prepared.asks_fees)
        result = await graph.run(prepared, context, variables, operation)
    return show_result(result, trace_id)
