"""What an operation asks for, worked out once: which fields of which types, who resolves them, and how values are completed.

The library finds all of that out anew for every request, value by value, which costs more than the resolvers themselves do. A
plan is made when an operation is executed first, one for each way that its @skip and @include may turn out, and is kept while
there is room (`plans.py`). It keeps the library's rules: an error is told at its path and takes the next value above it that may
be null; fields of a query are resolved together, those of a mutation one after the other.
Source: GraphQL specification (September 2025), section 6.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from inspect import isawaitable
from typing import Any, TypeGuard

from graphql import (
    ExecutionResult,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLField,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    Node,
    OperationDefinitionNode,
    OperationType,
    VariableNode,
    Visitor,
    default_field_resolver,
    is_abstract_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_object_type,
    visit,
)
from graphql.execution.collect_fields import (
    FieldDetailsList,
    FragmentDetails,
    collect_fields,
    collect_subfields,
)
from graphql.execution.values import VariableValues, get_argument_values
from graphql.pyutils import Path
from graphql.type.definition import GraphQLResolveInfoHelpers

from api.graphql import completing, reading
from api.graphql.completing import Complete, Info, Run, is_awaited
from api.graphql.reading import READS, Read
from custody.kernel.errors import InvariantViolated

_HELPERS = GraphQLResolveInfoHelpers(gather=lambda values: asyncio.gather(*values), track=lambda _: None)
"""What the library gives to resolvers; none of ours uses it."""


def _is_awaitable(value: Any) -> TypeGuard[Awaitable[Any]]:
    return isawaitable(value)


class Plan:
    """How one operation is executed."""

    def __init__(
        self,
        schema: GraphQLSchema,
        fragments: Mapping[str, FragmentDefinitionNode],
        operation: OperationDefinitionNode,
        variables: VariableValues,
    ) -> None:
        """Of `variables`, only those count that @skip and @include ask for. The operation is valid. Raises GraphQLError where one
        of those variables is null, or where the schema has no such operations."""
        self.schema = schema
        self.fragments = dict(fragments)
        self.operation = operation
        root = schema.get_root_type(operation.operation)
        if root is None:
            raise GraphQLError(f"There is no {operation.operation.value} here.", operation)
        maker = _Maker(self, variables)
        wanted = collect_fields(schema, maker.fragments, variables, root, operation, hide_suggestions=True)
        self._root = _Selection(maker.fields(root, wanted.grouped_field_set))
        self.fields = maker.made
        """How many it has, for each type that may be met: its size."""
        self._in_turn = operation.operation is OperationType.MUTATION

    async def run(self, context: object, variables: VariableValues, root: object = None) -> ExecutionResult:
        """The answer to one request, or to one event of a subscription."""
        run = Run(context, variables, root)
        try:
            found = self._root.in_turn(run, root) if self._in_turn else self._root.select(run, root, None)
            data = await found if isawaitable(found) else found
        except GraphQLError as error:
            run.errors.append(error)
            data = None
        return ExecutionResult(data, run.errors or None)


class _Selection:
    """What is asked of one object."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Sequence[_Field]) -> None:
        self._fields = fields

    def select(self, run: Run, source: Any, path: Path | None) -> Any:
        """The object's part of the answer, or something to await where a field is not known at once."""
        found: dict[str, Any] = {}
        awaited: list[str] = []
        failed: GraphQLError | None = None
        try:
            for field in self._fields:
                value = found[field.name] = field.show(run, source, path)
                if is_awaited(value):
                    awaited.append(field.name)
        except GraphQLError as error:
            failed = error
        if awaited:
            return self._filled(found, awaited, failed)
        if failed is not None:
            raise failed
        return found

    async def _filled(
        self, found: dict[str, Any], awaited: list[str], failed: GraphQLError | None
    ) -> dict[str, Any]:
        values = await completing.all_of([found[name] for name in awaited], failed)
        found.update(zip(awaited, values, strict=True))
        return found

    async def in_turn(self, run: Run, source: Any) -> dict[str, Any]:
        """The same, each field only once the one before it is done."""
        found: dict[str, Any] = {}
        for field in self._fields:
            value = field.show(run, source, None)
            found[field.name] = await value if is_awaited(value) else value
        return found


class _Field:
    """One field of one type, as one operation asks for it."""

    def __init__(
        self,
        plan: Plan,
        name: str,
        parent: GraphQLObjectType,
        definition: GraphQLField,
        nodes: list[FieldNode],
        complete: Complete,
        read: tuple[str, Read] | None,
    ) -> None:
        """`name` is that in the answer. `read`: the attribute and how its value is shown, where there is no more to the field."""
        self.name = name
        self._plan = plan
        self._parent = parent
        self._definition = definition
        self._nodes = nodes
        self._complete = complete
        self._read = read
        self._nullable = not is_non_null_type(definition.type)
        self._resolve = definition.resolve or default_field_resolver
        self._arguments = _arguments(definition, nodes[0])

    def show(self, run: Run, source: Any, above: Path | None) -> Any:
        """The field's value as the answer shows it, or something to await. Raises GraphQLError where it may not be null."""
        if self._read is not None:
            attribute, read = self._read
            try:
                return read(getattr(source, attribute))
            except Exception:  # noqa: BLE001, S110 - below, the same is done in the way that says what is wrong
                pass
        path = Path(above, self.name, self._parent.name)
        try:
            info = self._info(run, path)
            value = self._resolve(source, info, **self._arguments(run.variables))
            if isawaitable(value):
                return self._later(run, value, info, path)
            shown = self._complete(run, value, info, path)
        except Exception as error:  # noqa: BLE001 - whatever a resolver raises is this field's error
            return self._fail(run, error, path)
        return self._settled(run, shown, path) if is_awaited(shown) else shown

    async def _later(self, run: Run, value: Awaitable[Any], info: Info, path: Path) -> Any:
        try:
            shown = self._complete(run, await value, info, path)
            return await shown if is_awaited(shown) else shown
        except Exception as error:  # noqa: BLE001 - as above
            return self._fail(run, error, path)

    async def _settled(self, run: Run, shown: Awaitable[Any], path: Path) -> Any:
        try:
            return await shown
        except Exception as error:  # noqa: BLE001 - as above
            return self._fail(run, error, path)

    def _fail(self, run: Run, error: Exception, path: Path) -> None:
        run.fail(error, self._nodes, path, nullable=self._nullable)

    def _info(self, run: Run, path: Path) -> Info:
        plan = self._plan
        return Info(
            self._nodes[0].name.value, self._nodes, self._definition.type, self._parent, path, plan.schema,
            plan.fragments, run.root, plan.operation, run.variables, run.context, _is_awaitable, None, _HELPERS,
        )  # fmt: skip


def _arguments(field: GraphQLField, node: FieldNode) -> Callable[[VariableValues], Mapping[str, Any]]:
    """What the resolver is given, by the variables of a request. Raises GraphQLError."""
    if not field.args:
        return lambda _: {}
    if not variables_in(*node.arguments or ()):
        try:
            known = get_argument_values(field, node, hide_suggestions=True)
        except GraphQLError:
            pass  # told each time, below
        else:
            return lambda _: known
    return lambda variables: get_argument_values(field, node, variables, hide_suggestions=True)


def variables_in(*nodes: Node) -> frozenset[str]:
    """The names of the variables that these parts of a document use."""
    found: set[str] = set()

    class Names(Visitor):
        def enter_variable(self, node: VariableNode, *_: Any) -> None:
            found.add(node.name.value)

    for node in nodes:
        visit(node, Names())
    return frozenset(found)


class _Maker:
    """Works out one plan."""

    def __init__(self, plan: Plan, variables: VariableValues) -> None:
        self.fragments = {name: FragmentDetails(each) for name, each in plan.fragments.items()}
        self.made = 0
        self._plan = plan
        self._variables = variables

    def fields(self, parent: GraphQLObjectType, wanted: Mapping[str, FieldDetailsList]) -> list[_Field]:
        """The fields of one object. Validation has seen to it that there is each of them."""
        found = []
        for name, details in wanted.items():
            definition = self._plan.schema.get_field(parent, details[0].node.name.value)
            if definition is not None:
                nodes = [each.node for each in details]
                complete = self._completion(definition.type, details)
                read = self._reading(parent, definition, details)
                found.append(_Field(self._plan, name, parent, definition, nodes, complete, read))
        self.made += len(found)
        return found

    def _selection(self, kind: GraphQLObjectType, details: FieldDetailsList) -> _Selection:
        return _Selection(self.fields(kind, self._subfields(kind, details)))

    def _subfields(
        self, kind: GraphQLObjectType, details: FieldDetailsList
    ) -> Mapping[str, FieldDetailsList]:
        plan = self._plan
        return collect_subfields(
            plan.schema, self.fragments, self._variables, plan.operation, kind, details
        ).grouped_field_set

    def _completion(self, kind: GraphQLOutputType, details: FieldDetailsList) -> Complete:
        if is_non_null_type(kind):
            return completing.never_null(self._completion(kind.of_type, details))
        general = self._general(kind, details)
        short = self._short_way(kind, details)
        return general if short is None else completing.shortened(short, general)

    def _general(self, kind: GraphQLOutputType, details: FieldDetailsList) -> Complete:
        nodes = [each.node for each in details]
        if is_list_type(kind):
            item = kind.of_type
            return completing.Every(
                self._completion(item, details), nodes, nullable=not is_non_null_type(item)
            )
        if is_leaf_type(kind):
            return completing.leaf(reading.leaf(kind), kind.name)
        if is_object_type(kind):
            return completing.whole(kind, self._selection(kind, details).select, nodes)
        if is_abstract_type(kind):
            possible = self._plan.schema.get_possible_types(kind)
            return completing.one_of(kind, {each.name: self._general(each, details) for each in possible})
        raise InvariantViolated("a type of no kind that can be shown", type=str(kind))

    def _reading(
        self, parent: GraphQLObjectType, field: GraphQLField, details: FieldDetailsList
    ) -> tuple[str, Read] | None:
        """The attribute that a field is, and how its value is shown, if there is no more to it."""
        if details[0].node.name.value == "__typename":
            return reading.typename(parent.name)
        attribute = getattr(field.resolve, READS, None)
        read = None if attribute is None or field.args else self._short_way(field.type, details)
        return None if attribute is None or read is None else (attribute, read)

    def _short_way(self, kind: GraphQLOutputType, details: FieldDetailsList) -> Read | None:
        """How a value of this type is read, if nobody is asked about any part of it."""
        if is_leaf_type(kind):
            return reading.leaf(kind)
        if is_non_null_type(kind) or is_list_type(kind):
            inner = self._short_way(kind.of_type, details)
            around = reading.not_null if is_non_null_type(kind) else reading.each
            return None if inner is None else around(inner)
        if not is_object_type(kind):
            return None
        fields: list[tuple[str, str, Read]] = []
        for name, own in self._subfields(kind, details).items():
            field = self._plan.schema.get_field(kind, own[0].node.name.value)
            read = None if field is None else self._reading(kind, field, own)
            if read is None:
                return None
            fields.append((name, *read))
        return reading.whole(fields, kind.is_type_of)
