"""The plans that a process keeps: those used last, as far as there is room for them.

A document of a thousand characters may have a plan of a megabyte, and one more for each way that its @skip and @include turn out;
what is bounded is therefore how many fields all of them have together. Each holds on to its document: plans are counted too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from graphql import FragmentDefinitionNode, GraphQLSchema, OperationDefinitionNode
from graphql.execution.values import VariableValues

from api.graphql.plan import Plan

FIELDS_MAX = 50_000
"""Fields of all plans that are kept, each of about a kilobyte."""
PLANS_MAX = 1000
"""Plans that are kept. Most have a few dozen fields."""


@dataclass(slots=True)
class Plans:
    """How operations are executed, as far as that was worked out."""

    schema: GraphQLSchema
    fields_max: int = FIELDS_MAX
    fields: int = 0
    """Of all that are kept."""
    _kept: OrderedDict[object, Plan] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._kept)

    def find(
        self,
        fragments: Mapping[str, FragmentDefinitionNode],
        operation: OperationDefinitionNode,
        chosen_by: tuple[str, ...],
        variables: VariableValues,
    ) -> Plan:
        """How this operation of a valid document is executed with these variables, of which @skip and @include ask for those in
        `chosen_by`. Raises GraphQLError where one of those has no value."""
        values = (variables.coerced.get(name) for name in chosen_by)
        # Another operation of the document may mean a list by the name that chooses here. A plan keeps its operation, so its id.
        of = (id(operation), *(value if isinstance(value, bool) else None for value in values))
        found = self._kept.get(of)
        if found is not None:
            self._kept.move_to_end(of)
            return found
        made = self._kept[of] = Plan(self.schema, fragments, operation, variables)
        self.fields += made.fields
        while self.fields > self.fields_max or len(self._kept) > PLANS_MAX:
            self.fields -= self._kept.popitem(last=False)[1].fields
        return made
