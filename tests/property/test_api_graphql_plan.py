"""Plans against the library's own execution, with documents, values and failures that are made up.

Equal are the data, the order of its names, and where errors left null. Which error is told of such a place may differ where
fields take time: the library cancels what a plan lets come to its end.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from inspect import isawaitable
from random import Random
from typing import Any

import pytest
from graphql import (
    ExecutionResult,
    GraphQLError,
    build_schema,
    execute,
    get_named_type,
    is_abstract_type,
    is_composite_type,
    is_list_type,
    is_non_null_type,
    is_object_type,
)

from api.graphql.documents import Documents, Prepared
from api.graphql.execution import Graph
from api.graphql.plans import Plans
from api.graphql.reading import READS

DOCUMENTS = 70
MADE: Any = build_schema("""
enum Mood { GLAD SAD }
interface Named { id: ID! name: String mood: Mood! friend: Named }
union Pet = Cat | Dog
type Cat implements Named { id: ID! name: String mood: Mood! friend: Named lives: Int! kittens: [Cat!]! enemy: Dog! }
type Dog implements Named { id: ID! name: String mood: Mood! friend: Named size: Float pets: [Pet] grid: [[Cat!]] }
type Query {
  named: Named pet: Pet! cats: [Cat!] dogs: [[Dog]!]! cat: Cat
  dog(mood: Mood = SAD, ages: [[Int!]] = [[1], [2]]): Dog said(text: String = "a", moods: [Mood!], times: Int! = 2): String!
}
""")
ASKED = {
    "dog": ("", "(mood: $mood)", "(mood: GLAD, ages: $ages)", "(ages: 7)", "(mood: null)"),
    "said": ("", "(times: $times)", '(text: "b", moods: [SAD, $mood])', "(moods: GLAD, times: 3)", "(text: $text)"),
}  # fmt: skip
CHOICES = ("@skip(if: $yes)", "@include(if: $yes)", "@skip(if: $no)", "@include(if: true) @skip(if: $no)")
DECLARED = {
    "yes": "Boolean!", "no": "Boolean = false", "mood": "Mood! = GLAD", "ages": "[[Int!]]", "times": "Int! = 4",
    "text": "String",
}  # fmt: skip
GIVEN: dict[str, tuple[object, ...]] = {
    "yes": (True, False), "no": (True, False), "mood": ("SAD",), "ages": (None, 3, [[4], None]), "times": (5,),
    "text": (None, "c"),
}  # fmt: skip
LEAVES: dict[str, tuple[object, ...]] = {
    "ID": ("i", 7, 7.5),
    "String": ("s", True, 1, [1]),
    "Mood": ("GLAD", "SAD", "GLAD", "MAD"),
    "Int": (1, 2, 3.0, "four", 2**40),
    "Float": (1, 2.5, "3"),
    "Boolean": (True,),
}


class Thing:
    """Any object. What it has, and whether it breaks, follows from where it stands."""

    def __init__(self, kind: str, place: str) -> None:
        self.kind = kind
        self.place = place

    def __getattr__(self, name: str) -> object:
        kind = getattr(MADE.type_map[self.kind], "fields", {}).get(name)
        if kind is None:
            raise AttributeError(name)
        return made(kind.type, f"{self.place}/{name}")


def made(kind: Any, place: str) -> Any:
    """A value of this type, mostly."""
    dice = Random(place)
    luck = dice.random()
    if luck < 0.04:
        raise dice.choice((LookupError, RuntimeError, GraphQLError))(place)
    if luck < 0.1:
        return None
    if is_non_null_type(kind):
        kind = kind.of_type
    if is_list_type(kind):
        items = [_or_error(kind.of_type, f"{place}/{number}") for number in range(dice.randrange(4))]
        return dice.choice((items, items, tuple(items), 7 if luck > 0.95 else items))
    if is_abstract_type(kind):
        kind = dice.choice(MADE.get_possible_types(kind))
    if is_object_type(kind):
        return Thing(kind.name, place)
    return dice.choice(LEAVES[kind.name])


def _or_error(kind: Any, place: str) -> object:
    try:
        return made(kind, place)
    except Exception as error:  # noqa: BLE001 - an item may be an error
        return error


def document(dice: Random) -> tuple[str, dict[str, object]]:
    """A document that may well be invalid, and what its variables are."""
    fragments = [
        (f"F{number}", kind, _selection(dice, MADE.type_map[kind], 2, []))
        for number, kind in enumerate(("Named", "Cat", "Dog", "Pet"))
    ]
    text = _selection(dice, MADE.query_type, 4, fragments)
    used = [each for each in fragments if f"...{each[0]}" in text]
    text += "".join(f" fragment {name} on {kind} {body}" for name, kind, body in used)
    names = sorted(set(re.findall(r"\$(\w+)", text)))
    declared = ", ".join(f"${name}: {DECLARED[name]}" for name in names)
    given = {name: dice.choice(GIVEN[name]) for name in names if dice.random() < 0.8}
    return f"query ({declared}) {text}" if names else text, given


def _selection(dice: Random, kind: Any, depth: int, fragments: list[tuple[str, str, str]]) -> str:
    found = ["__typename"] if dice.random() < 0.2 else []
    fitting = [name for name, on, _ in fragments if _overlap(kind, MADE.type_map[on])]
    for _ in range(dice.randint(1, 4)):
        when = dice.choice(CHOICES) if dice.random() < 0.15 else ""
        if fitting and dice.random() < 0.3:
            found.append(f"...{dice.choice(fitting)} {when}")
        elif depth and dice.random() < 0.25 and kind.name != "Query":
            others = [
                each
                for each in map(MADE.type_map.get, ("Named", "Pet", "Cat", "Dog"))
                if _overlap(kind, each)
            ]
            inner = dice.choice(others)
            found.append(f"... on {inner.name} {when} {_selection(dice, inner, depth - 1, fragments)}")
        else:
            found.append(_field(dice, kind, when, depth, fragments))
    return "{ " + " ".join(found) + " }"


def _field(dice: Random, kind: Any, when: str, depth: int, fragments: list[tuple[str, str, str]]) -> str:
    of = getattr(kind, "fields", {})
    names = [name for name in of if depth or not is_composite_type(get_named_type(of[name].type))]
    if not names:
        return "__typename"
    name = dice.choice(names)
    alias = f"{dice.choice('ab')}_{name}: " if dice.random() < 0.15 else ""
    named = get_named_type(of[name].type)
    below = _selection(dice, named, depth - 1, fragments) if is_composite_type(named) else ""
    return f"{alias}{name}{dice.choice(ASKED.get(name, ('',)))} {when} {below}"


def _overlap(one: Any, other: Any) -> bool:
    of = MADE.get_possible_types
    kinds = [set(of(each)) if is_abstract_type(each) else {each} for each in (one, other)]
    return bool(kinds[0] & kinds[1])


@pytest.fixture(params=[False, True], ids=["at once", "in time"])
def schema(request: pytest.FixtureRequest) -> Any:
    """Resolvers that answer at once, or some of them later."""
    for kind in ("Query", "Cat", "Dog"):
        for name, field in MADE.type_map[kind].fields.items():
            field.resolve = _resolver(name, field.type, takes_time=request.param)
    for kind in ("Named", "Pet"):
        MADE.type_map[kind].resolve_type = lambda value, *_: value.kind
    return MADE


def _resolver(name: str, kind: Any, *, takes_time: bool) -> Callable[..., Any]:
    def read(source: Any, *_: object) -> Any:
        return getattr(source, name)

    def call(source: Thing, _info: object, **arguments: object) -> Any:
        place = f"{source.place}/{name}/{json.dumps(arguments)}"
        turns = Random(place + "!").randrange(3) if takes_time else 0
        return later(kind, place, turns) if turns else made(kind, place)

    async def later(kind: Any, place: str, turns: int) -> Any:
        for _ in range(turns):
            await asyncio.sleep(0)
        return made(kind, place)

    if name in ("dog", "said") or (takes_time and name in ("named", "friend", "kittens", "mood", "pets")):
        return call
    setattr(read, READS, name)
    return read


async def test_a_plan_answers_made_up_documents_as_the_library(schema: Any) -> None:
    documents = Documents(schema)
    graph = Graph(core=schema, documents=documents, plans=Plans(schema))
    compared = failed = 0
    for seed in range(DOCUMENTS * 2):
        text, variables = document(Random(seed))
        prepared = documents.find(text, None)
        if prepared.errors:
            continue
        root, context = Thing("Query", str(seed)), None
        found = await graph.run(prepared, context, variables, None, root)  # type: ignore[arg-type]  # nobody asks for it
        expected = await by_library(schema, prepared, variables, root)
        assert shown(found) == shown(expected), (seed, text, variables)
        compared += 1
        failed += bool(found.errors)
    assert compared > DOCUMENTS
    assert failed > DOCUMENTS / 4


async def by_library(
    schema: Any, prepared: Prepared, variables: dict[str, object], root: Thing
) -> ExecutionResult:
    assert prepared.document is not None
    found = execute(schema, prepared.document, root, variable_values=dict(variables), hide_suggestions=True)
    return await found if isawaitable(found) else found


def shown(result: ExecutionResult) -> tuple[str, list[str]]:
    """The data, and where errors left null in it."""
    left = {json.dumps(_null(result.data, error)) for error in result.errors or ()}
    return json.dumps(result.data), sorted(left)


def _null(data: Any, error: GraphQLError) -> list[str | int]:
    reached: list[str | int] = []
    for step in error.path or ():
        if data is None:
            break
        data = data[step]
        reached.append(step)
    assert data is None
    return reached
