"""The GraphQL schema: what custody apps read, do and watch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import strawberry
from graphql import (
    GraphQLField,
    GraphQLFieldResolver,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLSchema,
    get_named_type,
    is_scalar_type,
)
from graphql.validation import NoSchemaIntrospectionCustomRule
from strawberry.schema.config import StrawberryConfig
from strawberry.types import Info

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
from api.graphql.movements import Deposit, Payout, Transfer, Withdrawal
from api.graphql.mutations import Mutation
from api.graphql.parties import Customer, DepositAddress, Wallet
from api.graphql.query import Query
from api.graphql.reading import READS
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

    Fields are read and functions called without the library's detour; whatever leads to something guarded asks first.
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
                _shorten(field, schema.config)
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


def _shorten(field: GraphQLField, config: StrawberryConfig) -> None:
    """Have the field's value found by what we wrote, without the library's general way to it."""
    definition: Any = field.extensions.get("strawberry-definition")
    if definition is None or definition.extensions or field.subscribe is not None:
        return
    if definition.base_resolver is None:
        if definition.is_basic_field:
            field.resolve = _reader(definition.python_name)
        return
    names = {config.name_converter.from_argument(each): each.python_name for each in definition.arguments}
    takes_more = definition.base_resolver.parent_parameter or definition.base_resolver.root_parameter
    if not takes_more and all(is_scalar_type(get_named_type(each.type)) for each in field.args.values()):
        field.resolve = _call(definition, names)


def _reader(name: str) -> GraphQLFieldResolver:
    def read(source: Any, _info: Any) -> Any:
        return getattr(source, name)

    setattr(read, READS, name)
    return read


def _call(definition: Any, names: Mapping[str, str]) -> GraphQLFieldResolver:
    """Calls a function with scalars, which are what the function takes once their names are Python's."""
    resolver = definition.base_resolver
    function: Callable[..., Any] = resolver.wrapped_func
    takes_self = resolver.self_parameter is not None
    info_name = None if resolver.info_parameter is None else resolver.info_parameter.name

    def resolve(source: Any, info: GraphQLResolveInfo[Any], **arguments: Any) -> Any:
        given = {names[name]: value for name, value in arguments.items()}
        if info_name is not None:
            given[info_name] = Info(_raw_info=info, _field=definition)
        return function(source, **given) if takes_self else function(**given)

    return resolve
