"""Plans answer as the library's own execution does, whatever resolvers give and documents ask for."""

from __future__ import annotations

import asyncio
from inspect import isawaitable
from types import SimpleNamespace
from typing import Any

import pytest
from graphql import ExecutionResult, GraphQLSchema, build_schema, execute, parse

from api.graphql.documents import Documents
from api.graphql.execution import Graph
from api.graphql.loader import Loader
from api.graphql.plans import Plans
from api.graphql.reading import READS

SCHEMA = """
interface Named { name: String! }
type Dog implements Named { name: String! bark(times: Int = 1): String }
type Cat implements Named { name: String! friend: Named lives: Int! out: Int }
enum Mood { GLAD SAD }
type Query {
  now: String later: String! broken: String brokenLater: String! null: String! mood: Mood
  many(of: [Int!]): Int
  cat: Cat pets: [Named!] wrong: [Cat] odd: [Cat] strict: [Cat!] matrix: [[Int]!] text: [String] unfit: [Int]
}
type Mutation { first: String second: String! third: String }
"""
DOG = SimpleNamespace(kind="Dog", name="Rex")


class Cat(SimpleNamespace):
    """One of which nobody knows where it is."""

    @property
    def out(self) -> int:
        raise RuntimeError("where?")


CAT = Cat(kind="Cat", name="Tom", friend=DOG, lives=9)
DEAD = SimpleNamespace(kind="Cat", name="Tim", friend=None, lives=None)
VALUES: dict[str, object] = {
    "now": "now",
    "null": None,
    "mood": "GLAD",
    "cat": CAT,
    "pets": [CAT, DOG],
    "odd": (CAT, DEAD, None),
    "strict": [CAT, DEAD],
    "matrix": [[1, None], (2,)],
    "text": ("a", LookupError("b"), "c"),
    "unfit": 7,
    "wrong": [CAT, LookupError("no cat")],
}


async def later(*_: object) -> str:
    await asyncio.sleep(0)
    return "later"


async def broken_later(*_: object) -> str:
    await asyncio.sleep(0)
    raise LookupError("later")


def broken(*_: object) -> str:
    raise LookupError("broken")


async def bark(_source: object, _info: object, times: int) -> str:
    if times > 2:
        raise ValueError("hoarse")
    return "wuff" * times


def giving(value: object) -> Any:
    return lambda *_: value


def reading(name: str) -> Any:
    def read(source: Any, *_: object) -> Any:
        return getattr(source, name)

    setattr(read, READS, name)
    return read


@pytest.fixture(scope="module")
def schema() -> GraphQLSchema:
    made: Any = build_schema(SCHEMA)
    of = {name: made.type_map[name].fields for name in ("Query", "Mutation", "Dog", "Cat")}
    for name, value in VALUES.items():
        of["Query"][name].resolve = giving(value)
    of["Query"]["later"].resolve = of["Mutation"]["third"].resolve = later
    of["Query"]["brokenLater"].resolve = broken_later
    of["Query"]["broken"].resolve = of["Mutation"]["second"].resolve = broken
    of["Mutation"]["first"].resolve = giving("first")
    of["Dog"]["bark"].resolve = bark
    of["Query"]["many"].resolve = lambda *_, of: len(of)
    for kind, name in (("Dog", "name"), ("Cat", "name"), ("Cat", "lives"), ("Cat", "out")):
        of[kind][name].resolve = reading(name)
    made.type_map["Named"].resolve_type = lambda value, *_: value.kind
    return made  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("{ now later mood }", {}),
        ("{ again: now ...Some } fragment Some on Query { later cat { __typename name lives } }", {}),
        ("{ now broken later }", {}),
        ("{ now brokenLater later }", {}),
        ("{ later null now }", {}),
        ("{ cat { name friend { name ... on Dog { bark(times: 2) } __typename } } }", {}),
        ("{ pets { __typename name ... on Cat { lives friend { name } } ... on Dog { bark } } }", {}),
        ("{ odd { name lives } now }", {}),
        ("{ strict { name lives } now }", {}),
        ("{ matrix text unfit }", {}),
        ("{ wrong { __typename } cat { name out } }", {}),
        ("mutation { first third }", {}),
        ("mutation { first second third }", {}),
        ("query ($n: Int) { pets { ... on Dog { bark(times: $n) } } }", {"n": 2}),
        ("query ($n: Int) { pets { ... on Dog { bark(times: $n) } } }", {"n": 3}),
        ("query ($n: Int) { pets { ... on Dog { bark(times: $n) } } }", {"n": "three"}),
        ("query ($n: Int!) { pets { ... on Dog { bark(times: $n) } } }", {}),
        ('{ __schema { queryType { name } } __type(name: "Cat") { fields { name type { kind } } } }', {}),
    ],
)
async def test_a_plan_answers_as_the_library(
    schema: GraphQLSchema, text: str, variables: dict[str, object]
) -> None:
    assert shown(await planned(graph_of(schema), text, variables)) == shown(
        await by_library(schema, text, variables)
    )


async def test_one_document_has_a_plan_for_each_way_that_it_turns_out(schema: GraphQLSchema) -> None:
    graph = Graph(core=schema, documents=Documents(schema), plans=Plans(schema))
    text = "query ($yes: Boolean!) { now @include(if: $yes) later @skip(if: $yes) }"
    for yes in (True, False, True):
        found = await planned(graph, text, {"yes": yes})
        assert found.data == ({"now": "now"} if yes else {"later": "later"})
    assert (len(graph.plans), graph.plans.fields) == (2, 2)


async def test_what_chooses_in_one_operation_may_be_a_list_in_another(schema: GraphQLSchema) -> None:
    text = "query A($n: [Int!]) { many(of: $n) } query B($n: Boolean!) { now @skip(if: $n) later }"
    graph = graph_of(schema)
    assert (await planned(graph, text, {"n": [1, 2]}, "A")).data == {"many": 2}
    assert (await planned(graph, text, {"n": True}, "B")).data == {"later": "later"}


async def test_null_where_fields_are_chosen_is_told_before_anything_is_done(schema: GraphQLSchema) -> None:
    text = "query ($yes: Boolean = true) { cat { name @include(if: $yes) } }"
    graph = graph_of(schema)
    assert (await planned(graph, text, {"yes": False})).data == {"cat": {}}
    found = await planned(graph, text, {"yes": None})
    assert found.data is None
    assert [error.path for error in found.errors or ()] == [None]


async def test_plans_are_kept_as_far_as_there_is_room_for_their_fields(schema: GraphQLSchema) -> None:
    graph = Graph(core=schema, documents=Documents(schema), plans=Plans(schema, fields_max=5))
    for text in ("{ now }", "{ now mood }", "{ now }", "{ now mood null }"):
        await planned(graph, text, {})
    assert (len(graph.plans), graph.plans.fields) == (2, 4)


async def test_what_is_under_way_beside_a_failure_comes_to_its_end() -> None:
    schema: Any = build_schema("type Query { slow: String broken: String! }")
    ended: list[str] = []

    async def slow(*_: object) -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        ended.append("slow")

    schema.query_type.fields["slow"].resolve = slow
    schema.query_type.fields["broken"].resolve = broken_later
    assert (await planned(graph_of(schema), "{ slow broken }", {})).data is None
    assert ended == ["slow"]


async def test_who_asks_together_is_looked_up_together_and_once() -> None:
    asked: list[list[int]] = []

    async def load(keys: list[int]) -> list[int]:
        asked.append(keys)
        if 0 in keys:
            raise LookupError("nought")
        return [key * 10 for key in keys]

    loader = Loader(load)
    assert await asyncio.gather(*(loader.load(key) for key in (1, 2, 1, 3))) == [10, 20, 10, 30]
    assert await loader.load(2) == 20
    failed = await asyncio.gather(*(loader.load(key) for key in (0, 4)), return_exceptions=True)
    assert [type(each) for each in failed] == [LookupError, LookupError]
    assert asked == [[1, 2, 3], [0, 4]]


async def test_nobody_waits_for_who_was_to_ask_for_all_and_was_cut_off() -> None:
    async def load(keys: list[int]) -> list[int]:
        return keys

    loader = Loader(load)
    leading, following = (asyncio.ensure_future(loader.load(key)) for key in (1, 2))
    await asyncio.sleep(0)
    leading.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert following.cancelled()
    assert await loader.load(3) == 3


def graph_of(schema: GraphQLSchema) -> Graph:
    return Graph(core=schema, documents=Documents(schema), plans=Plans(schema))


async def planned(
    graph: Graph, text: str, variables: dict[str, object], operation: str | None = None
) -> ExecutionResult:
    prepared = graph.documents.find(text, None)
    assert not prepared.errors
    context: Any = None
    return await graph.run(prepared, context, variables, operation)


async def by_library(schema: GraphQLSchema, text: str, variables: dict[str, object]) -> ExecutionResult:
    found = execute(schema, parse(text), variable_values=dict(variables), hide_suggestions=True)
    return await found if isawaitable(found) else found


def shown(result: ExecutionResult) -> tuple[object, list[tuple[object, str]]]:
    """The data, and the errors in whatever order they were met."""
    return result.data, sorted(((error.path, error.message) for error in result.errors or ()), key=str)
