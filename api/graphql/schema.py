"""The GraphQL schema: what custody apps read, do and watch."""

from __future__ import annotations

from typing import Any

import strawberry
from graphql import GraphQLField, GraphQLObjectType, GraphQLSchema
from graphql.validation import NoSchemaIntrospectionCustomRule
from strawberry.schema.config import StrawberryConfig

from api.graphql import (
    address_book,
    adjustments,
    batches,
    books,
    bulk,
    case_decisions,
    cases,
    chains,
    commands,
    connections,
    holdings,
    movements,
    mutation_types,
    mutations,
    parties,
    query,
    quotes,
    reconciliation,
    records,
    references,
    subscription,
)
from api.graphql.access import guard
from api.graphql.adjustments import Adjustment
from api.graphql.cases import Case
from api.graphql.descriptions import describe
from api.graphql.documents import Documents, load_registry
from api.graphql.executor import READS
from api.graphql.movements import Deposit, Payout, Transfer, Withdrawal
from api.graphql.mutations import Mutation
from api.graphql.parties import Customer, DepositAddress, Wallet
from api.graphql.query import Query
from api.graphql.subscription import Subscription
from custody.settings import ApiSettings

_DESCRIBED = (
    address_book,
    adjustments,
    batches,
    books,
    bulk,
    case_decisions,
    cases,
    chains,
    commands,
    connections,
    holdings,
    movements,
    mutation_types,
    mutations,
    parties,
    query,
    quotes,
    reconciliation,
    records,
    references,
    subscription,
)


def build_schema() -> strawberry.Schema:
    """The schema, described and guarded. What a document may cost is judged before it comes here.

    Plain fields are read as attributes without the library's detour; whatever leads to something guarded asks first.
    """
    describe(*_DESCRIBED)
    schema = strawberry.Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        types=[Adjustment, Customer, Wallet, DepositAddress, Deposit, Case, Transfer, Withdrawal, Payout],
        config=StrawberryConfig(disable_field_suggestions=True),
    )
    # The library offers no other way to a document that was validated before.
    core: GraphQLSchema = schema._schema
    for found in core.type_map.values():
        if isinstance(found, GraphQLObjectType):
            for field in found.fields.values():
                _shorten(field)
    # After the shortening, which would take the questions away again.
    guard(core)
    return schema


def build_core(schema: strawberry.Schema) -> GraphQLSchema:
    """What is executed."""
    return schema._schema


def build_documents(core: GraphQLSchema, chosen: ApiSettings) -> Documents:
    """All documents of this process. Raises BrokenRegistry."""
    rules = () if chosen.introspection else (NoSchemaIntrospectionCustomRule,)
    return Documents(
        core, rules, load_registry(chosen.trusted_documents), trusted_only=chosen.trusted_documents_only
    )


def _shorten(field: GraphQLField) -> None:
    definition: Any = field.extensions.get("strawberry-definition")
    if definition is not None and definition.is_basic_field and definition.base_resolver is None:
        name = definition.python_name

        def read(source: Any, _info: Any) -> Any:
            return getattr(source, name)

        setattr(read, READS, name)
        field.resolve = read
