"""`custody cases` in a process of its own: the queue, one case, deciding, and whether suspense is what its cases say."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from custody.db.session import Database
from custody.kernel.ids import TenantId, show_id
from custody.wallets.model import VaultRef
from tests.commands import custody
from tests.integration.test_deposits_cases import USDC, suspend
from tests.integration.test_deposits_service import OTHER_WALLET, balance_of, vault
from tests.integration.test_operator import CONFIGURATION

__all__ = ["vault"]


@pytest.fixture
def configuration(tmp_path: Path, database: Database) -> Path:
    path = tmp_path / "custody.toml"
    path.write_text(CONFIGURATION.format(url=database.url))
    return path


async def test_an_operator_works_through_the_queue(
    database: Database, tenant: TenantId, vault: VaultRef, configuration: Path
) -> None:
    async def run(*words: str) -> tuple[int, str, str]:
        done = await asyncio.to_thread(custody, configuration, "cases", *words, "--tenant", str(tenant))
        return done.returncode, done.stdout, done.stderr

    money = show_id("cas", (await suspend(database, vault, memo="text:[red]a\x1b[31m")).id)
    token = show_id("cas", (await suspend(database, vault, asset=USDC, tx_hash="02")).id)
    code, out, _ = await run("list")
    assert code == 0
    assert "\x1b" not in out
    assert "[red]a\\u001b" in out.replace("\n", "")
    code, out, _ = await run("list", "--json", "--reason", "unsupported_asset")
    assert [json.loads(line)["case"] for line in out.splitlines()] == [token]
    code, out, _ = await run("show", money)
    assert (json.loads(out)["reason"], json.loads(out)["amount"]) == ("unknown_memo", "0.0000500")
    code, out, _ = await run("check")
    assert (code, out.splitlines()[-1]) == (0, "suspense is what its cases say")

    wallet = show_id("wal", OTHER_WALLET)
    for _ in range(2):
        code, out, _ = await run("assign", money, "--wallet", wallet, "--note", "ticket 7")
        assert (code, json.loads(out)["state"], json.loads(out)["wallet"]) == (0, "assigned", wallet)
        assert json.loads(out)["decided_by"].startswith("operator:uid-")
    assert await balance_of(database, tenant, OTHER_WALLET) == 500
    code, out, err = await run("dismiss", money)
    assert (code, out) == (2, "")
    assert err.startswith(
        "custody cases: case_holds_money: A case with money in suspense cannot be dismissed;"
    )
    assert err.endswith("(state=assigned)\n")
    code, out, _ = await run("dismiss", token)
    assert (code, json.loads(out)["state"]) == (0, "dismissed")
    code, _, err = await run("return", money, "--to", "G", "--no-memo")
    assert (code, err.startswith("custody cases: case_decided")) == (2, True)


def test_a_tenant_that_is_not_there_is_said_so(configuration: Path) -> None:
    done = custody(configuration, "cases", "list", "--tenant", "77")
    assert (done.returncode, done.stderr) == (2, "there is no tenant 77\n")


async def test_vaults_are_listed_with_what_their_chain_says(
    tenant: TenantId, vault: VaultRef, configuration: Path
) -> None:
    done = await asyncio.to_thread(custody, configuration, "vaults", "list", "--tenant", str(tenant))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "vault": show_id("vlt", vault.vault_id),
        "chain": "stellar:devnet",
        "purpose": "omnibus",
        "account": vault.account,
        "memo_required": None,
    }
