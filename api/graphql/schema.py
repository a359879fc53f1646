"""The GraphQL schema: what custody apps read. Actions are REST."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import strawberry
from strawberry.extensions import (
    DisableIntrospection,
    MaxAliasesLimiter,
    MaxTokensLimiter,
    QueryDepthLimiter,
    SchemaExtension,
)
from strawberry.schema.config import StrawberryConfig

from api.graphql import cases, connections, holdings, movements, parties, query, reconciliation, records
from api.graphql.access import guard
from api.graphql.cases import Case
from api.graphql.descriptions import describe
from api.graphql.limits import SelectionLimiter
from api.graphql.movements import Deposit, Payout, Transfer, Withdrawal
from api.graphql.parties import Customer, DepositAddress, Wallet
from api.graphql.query import Query

DEPTH_MAX = 10
ALIASES_MAX = 15
TOKENS_MAX = 1000


class Schema(strawberry.Schema):
    """Errors are masked and logged at the endpoint; the library would log them a second time, with their values."""

    def process_errors(self, errors: object, execution_context: object = None) -> None:
        """Left to the endpoint."""


def build_schema(*, introspection: bool) -> strawberry.Schema:
    """The schema with its limits on what one query may cost."""
    describe(cases, connections, holdings, movements, parties, query, reconciliation, records)
    limits: list[Callable[[], SchemaExtension]] = [
        partial(QueryDepthLimiter, max_depth=DEPTH_MAX),
        partial(MaxAliasesLimiter, max_alias_count=ALIASES_MAX),
        partial(MaxTokensLimiter, max_token_count=TOKENS_MAX),
        SelectionLimiter,
    ]
    if not introspection:
        limits.append(DisableIntrospection)
    schema = Schema(
        query=Query,
        types=[Customer, Wallet, DepositAddress, Deposit, Case, Transfer, Withdrawal, Payout],
        extensions=limits,
        config=StrawberryConfig(disable_field_suggestions=not introspection),
    )
    guard(schema._schema)
    return schema
