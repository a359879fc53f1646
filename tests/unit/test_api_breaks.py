"""The description of the API breaks no client of the last release; and the comparison notices when it would."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from scripts.api_breaks import HERE, RELEASED, breaks, graphql_breaks, openapi_breaks

OLD = json.loads((RELEASED / "openapi.json").read_text("utf-8"))


def test_nothing_that_was_released_is_broken() -> None:
    assert breaks() == []


def schemas(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["components"]["schemas"]
    return found


PLANTED: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("is gone", lambda new: new["paths"].pop("/v1/transfers")),
    ("is needed now", lambda new: schemas(new)["TransferIn"]["required"].append("fee")),
    ("/amount: is gone", lambda new: schemas(new)["TransferIn"]["properties"].pop("amount")),
    (
        "takes no string",
        lambda new: schemas(new)["TransferIn"]["properties"]["amount"].update(type="integer"),
    ),
    (
        "maxLength is lower",
        lambda new: schemas(new)["TransferIn"]["properties"]["amount"].update(maxLength=3),
    ),
    ("pattern changed", lambda new: schemas(new)["TransferIn"]["properties"]["amount"].update(pattern="^1$")),
    ("/booked_at: is gone", lambda new: schemas(new)["TransferOut"]["properties"].pop("booked_at")),
    ("may be integer", lambda new: schemas(new)["TransferOut"]["properties"]["id"].update(type="integer")),
    ("not always there", lambda new: schemas(new)["TransferOut"]["required"].remove("amount")),
    ("does not answer 201", lambda new: new["paths"]["/v1/transfers"]["post"]["responses"].pop("201")),
    (
        "needs query parameter x now",
        lambda new: new["paths"]["/v1/transfers"]["get"]["parameters"].append(
            {"in": "query", "name": "x", "required": True, "schema": {"type": "string"}}
        ),
    ),
    ("takes no body", lambda new: new["paths"]["/v1/transfers"]["post"].pop("requestBody")),
]


@pytest.mark.parametrize(("told", "plant"), PLANTED, ids=[told for told, _ in PLANTED])
def test_a_planted_break_is_told(told: str, plant: Callable[[dict[str, Any]], object]) -> None:
    new = copy.deepcopy(OLD)
    plant(new)
    assert any(told in each for each in openapi_breaks(OLD, new)), openapi_breaks(OLD, new)


def test_what_is_only_added_breaks_nobody() -> None:
    new = copy.deepcopy(OLD)
    schemas(new)["TransferOut"]["properties"]["added"] = {"type": "string"}
    schemas(new)["TransferIn"]["properties"]["added"] = {"type": "string"}
    new["paths"]["/v1/added"] = {"get": {"responses": {}}}
    assert openapi_breaks(OLD, new) == []


def test_a_planted_break_of_graphql_is_told() -> None:
    sdl = (HERE / "schema.graphql").read_text("utf-8")
    assert graphql_breaks(sdl, sdl) == []
    assert graphql_breaks(sdl, sdl.replace("  bookedAt: DateTime!\n", "", 1)) != []
