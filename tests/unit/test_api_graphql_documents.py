"""Documents where introspection is off: what there is stays unsaid, also by way of a misspelling."""

from __future__ import annotations

import pytest
from graphql.validation import NoSchemaIntrospectionCustomRule

from api.graphql.documents import Documents
from api.graphql.schema import build_core, build_schema


@pytest.fixture(scope="module")
def closed() -> Documents:
    return Documents(build_core(build_schema()), (NoSchemaIntrospectionCustomRule,))


def test_nobody_asks_what_there_is(closed: Documents) -> None:
    (error,) = closed.find("{ __schema { queryType { name } } }", None).errors[:1]
    assert "introspection" in error.message.lower()


def test_a_misspelling_names_no_field(closed: Documents) -> None:
    (error,) = closed.find("{ nope }", None).errors
    assert error.message == "Cannot query field 'nope' on type 'Query'."


def test_where_introspection_is_on_a_misspelling_is_helped() -> None:
    (error,) = Documents(build_core(build_schema())).find("{ nope }", None).errors
    assert "Did you mean" in error.message
