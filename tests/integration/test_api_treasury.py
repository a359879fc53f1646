"""Rules, levels and what lies where, over the API and by command: set as a whole, told as they stand, audited once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from custody.audit import service as audit
from custody.db.session import Database
from custody.kernel.assetid import parse_asset_id
from custody.kernel.clock import SystemClock
from custody.kernel.ids import VaultId, parse_id
from custody.treasury import store
from custody.treasury.model import Holding, Verdict
from tests.commands import custody
from tests.integration.api_harness import FUNDS, XLM, Harness, running
from tests.integration.test_operator import CONFIGURATION

ETH = "eip155:31337/native"
RULE = {
    "asset": ETH,
    "threshold": "1000",
    "dust": "10",
    "max_age_s": 60,
    "fee_max": "500",
    "fee_share_max_bp": 100,
    "enabled": True,
}
LEVELS = {
    "purpose": "omnibus",
    "asset": XLM.text,
    "low": "1",
    "target": "2",
    "high": str(2 * FUNDS),
    "enabled": True,
}


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    async with running(database) as harness:
        yield harness


async def test_an_operator_sets_rules_and_levels_and_sees_what_lies_where(
    api: Harness, database: Database, tmp_path: Path
) -> None:
    await api.post("/v1/assets", {"id": ETH, "code": "ETH", "decimals": 18})
    for path, body in (("rules", RULE), ("targets", LEVELS)):
        for _ in range(2):
            done = await api.post(f"/v1/treasury/{path}", body, scope="operate")
            assert (done.status_code, done.json()) == (200, body), done.text
        assert (await api.get(f"/v1/treasury/{path}", scope="operate")).json()["data"] == [body]
        assert (await api.get(f"/v1/treasury/{path}", scope="operate", tenant=api.other)).json()["data"] == []
        assert (await api.get(f"/v1/treasury/{path}", scope="write")).status_code == 403
        assert (await api.post(f"/v1/treasury/{path}", body, scope="write")).status_code == 403
    async with database.read(api.tenant.id) as session:
        told = [each.action for each in await audit.page(session, 0, 1000)]
    assert [told.count(f"{name}.set") for name in ("sweep_rule", "vault_target")] == [1, 1]

    vault = VaultId(parse_id("vlt", api.tenant.vault))
    now = SystemClock().now()
    left = Holding(
        vault_id=vault,
        asset=parse_asset_id(ETH),
        amount=7,
        verdict=Verdict.DUST,
        detail="",
        since=now,
    )
    async with database.unit_of_work(api.tenant.id) as uow:
        await store.write_holding(uow, left, now)
    status = (await api.get("/v1/treasury/status", scope="operate")).json()
    (total,) = status["deposit_addresses"]
    assert (total["verdict"], total["addresses"], total["amount"]["atomic"]) == ("dust", 1, "7")
    (hot,) = status["vaults"]
    assert (hot["vault_id"], hot["posted"]["atomic"], hot["target"]) == (api.tenant.vault, str(FUNDS), "2")
    page = (await api.get("/v1/treasury/holdings", asset=ETH)).json()
    assert [each["vault_id"] for each in page["data"]] == [api.tenant.vault]
    other = (await api.get("/v1/treasury/holdings", asset=ETH, verdict="refused")).json()
    assert other == {"data": [], "next_cursor": None}

    configuration = tmp_path / "custody.toml"
    configuration.write_text(CONFIGURATION.format(url=database.url))

    async def run(*words: str) -> list[dict[str, object]]:
        done = await asyncio.to_thread(
            custody, configuration, "treasury", *words, "--tenant", str(api.tenant.id)
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    (rule,) = await run("rules", "--asset", ETH, "--threshold", "2000", "--fee-max", "500", "--off")
    assert (rule["threshold"], rule["dust"], rule["enabled"]) == ("2000", "0", False)
    assert [each.get("purpose", each.get("verdict")) for each in await run("status")] == ["dust", "omnibus"]


REFUSED: list[tuple[str, dict[str, object], str]] = [
    ("rules", {"asset": XLM.text, "fee_share_max_bp": None}, "bad_sweep_rule"),
    ("rules", {"dust": "1001"}, "bad_sweep_rule"),
    ("rules", {"fee_max": "0"}, "bad_sweep_rule"),
    ("rules", {"asset": "eip155:31337/erc20:0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"}, "unknown_asset"),
    ("rules", {"threshold": "1.5"}, "malformed_amount"),
    ("targets", {"low": "3"}, "bad_target"),
    ("targets", {"purpose": "gas"}, "bad_target"),
]


async def test_what_makes_no_sense_is_refused_by_its_name(api: Harness) -> None:
    await api.post("/v1/assets", {"id": ETH, "code": "ETH", "decimals": 18})
    for path, changes, code in REFUSED:
        answer = await api.post(f"/v1/treasury/{path}", (RULE if path == "rules" else LEVELS) | changes)
        assert answer.json()["code"] == code, answer.text
        assert (await api.get(f"/v1/treasury/{path}")).json()["data"] == []
