"""Kill switches over HTTP, GraphQL and the command: who may, what is told, and that it takes two to let it go on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from custody.db.session import Database
from tests.commands import custody
from tests.integration.api_harness import STELLAR, STRANGER, XLM, Harness, running
from tests.integration.test_operator import CONFIGURATION

pytestmark = pytest.mark.usefixtures("told_as_promised")

LIST = (
    "query($all: Boolean!) { switches(standing: $all) { edges { node { scope subject state resumedBy } } } }"
)


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    async with running(database) as harness:
        yield harness


async def shown(api: Harness, *, standing: bool) -> list[dict[str, str]]:
    answer = await api.graphql(LIST, all=standing)
    return [edge["node"] for edge in answer["data"]["switches"]["edges"]]


async def test_one_operator_stops_and_another_confirms(
    api: Harness, tmp_path: Path, database: Database
) -> None:
    body = {"scope": "asset", "subject": XLM.text, "reason": "the issuer froze us"}
    denied = await api.post("/v1/switches", body, key="stop", scope="write")
    assert (denied.status_code, denied.json()["code"]) == (403, "missing_scope")
    made = await api.post("/v1/switches", body, key="stop", scope="operate")
    again = await api.post("/v1/switches", body, key="stop", scope="operate")
    assert (made.status_code, again.json()) == (201, made.json())
    path = f"/v1/switches/{made.json()['id']}"
    assert (await api.get(path, scope="read")).json() == made.json()

    payment = {
        "wallet_id": api.tenant.wallet,
        "asset": XLM.text,
        "amount": "1000",
        "destination": STRANGER,
        "memo_type": "none",
        "memo": "",
    }
    transfer = {
        "from_wallet_id": api.tenant.wallet,
        "to_wallet_id": api.tenant.empty_wallet,
        "asset": XLM.text,
        "amount": "1000",
    }
    del payment["memo_type"], payment["memo"]
    for route, wanted in (("withdrawals", payment), ("transfers", transfer)):
        refused = await api.post(f"/v1/{route}", wanted, key=f"one-{route}")
        assert (refused.status_code, refused.json()["code"]) == (422, "stopped_by_switch"), refused.json()
    metrics = (await api.http.get("/metrics")).text
    assert f'custody_switches_stopped{{scope="asset",tenant="{api.tenant.id}"}} 1.0' in metrics

    why = {"reason": "it is right again"}
    early = await api.post(f"{path}/confirm", why, key="early", scope="operate")
    assert (early.status_code, early.json()["code"]) == (409, "resume_not_proposed")
    proposed = await api.post(f"{path}/resume", why, key="propose", scope="operate")
    assert proposed.json()["state"] == "resume_proposed"
    alone = await api.post(f"{path}/confirm", why, key="alone", scope="operate")
    assert (alone.status_code, alone.json()["code"]) == (403, "needs_second_person")
    assert await shown(api, standing=True) == [
        {"scope": "asset", "subject": XLM.text, "state": "resume_proposed", "resumedBy": None}
    ]
    configuration = tmp_path / "custody.toml"
    configuration.write_text(CONFIGURATION.format(url=database.url))
    switch, tenant = made.json()["id"], str(api.tenant.id)
    words = ("resume", switch, "--tenant", tenant, "--reason", "seen", "--confirm")
    done = await asyncio.to_thread(custody, configuration, *words)
    assert (done.returncode, json.loads(done.stdout)["state"]) == (0, "resumed"), done.stderr
    assert await shown(api, standing=True) == []
    (over,) = await shown(api, standing=False)
    assert over["resumedBy"].startswith("operator:uid-")
    assert (await api.post("/v1/transfers", transfer, key="one-transfers")).status_code == 201


async def test_what_cannot_be_stopped_meets_a_typed_problem(api: Harness) -> None:
    good = {"scope": "chain", "subject": STELLAR, "reason": "r"}
    for changed, code in (
        ({"subject": "stellar:elsewhere"}, "nothing_to_stop"),
        ({"scope": "customer", "subject": "ada"}, "malformed_id"),
        ({"scope": "everything"}, "invalid_input"),
        ({"reason": " "}, "bad_switch_reason"),
        ({"until": "tomorrow"}, "invalid_input"),
    ):
        refused = await api.post("/v1/switches", good | changed, key=code, scope="operate")
        assert refused.json()["code"] == code, refused.json()
    assert (await api.get("/v1/switches", scope="read")).json()["data"] == []
    made = await api.post("/v1/switches", good, key="good", scope="operate")
    other = await api.get(f"/v1/switches/{made.json()['id']}", tenant=api.other)
    assert (other.status_code, other.json()["code"]) == (404, "unknown_switch")
