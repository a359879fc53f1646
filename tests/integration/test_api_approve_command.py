"""`custody approve` against the API itself: the approvers' command, over a real socket, on intents that it decodes by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from custody.db.session import Database
from tests import commands
from tests.integration.api_harness import STRANGER, XLM, Harness, approver_key, running
from tests.integration.api_server import served

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    async with running(database) as harness:
        yield harness


async def custody(*argv: str) -> tuple[int, str, str]:
    """Run the command; how it ended and what it said."""
    done = await asyncio.to_thread(commands.custody, None, "approve", *argv)
    return done.returncode, done.stdout, done.stderr


async def test_two_people_approve_by_command_and_repeating_it_changes_nothing(
    api: Harness, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(api.tenant.keys["approve"])
    for name in ("alice", "bob"):
        pem = approver_key(name).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (tmp_path / f"{name}.pem").write_bytes(pem)
        (tmp_path / f"{name}.pem").chmod(0o600)
    body = {"wallet_id": api.tenant.wallet, "asset": XLM.text, "amount": "1234", "destination": STRANGER}
    asked = (await api.post("/v1/withdrawals", body)).json()
    async with served(api.asgi) as url:
        common = ("--api", url, "--token-file", str(token))
        code, out, err = await custody(*common, "list")
        assert (code, err) == (0, "")
        assert asked["id"] in out
        assert STRANGER in out
        assert "1 waiting" in out
        for name, state in (("alice", "awaiting_approval"), ("bob", "approved"), ("bob", "approved")):
            person = ("--key-file", str(tmp_path / f"{name}.pem"), "--approver", name, "--yes")
            code, out, read = await custody(*common, *person, asked["id"])
            assert code == 0, read
            assert STRANGER in read
            assert f"state: {state}" in out
        code, out, _ = await custody(*common, "list")
        assert "0 waiting" in out
        code, _, err = await custody(*common, *person, "wdr_" + "0" * 32)
        assert code == 1
        assert "404 unknown_withdrawal" in err
    decided = (await api.get(f"/v1/approvals/{asked['id']}")).json()["decisions"]
    assert [each["approver"] for each in decided] == ["alice", "bob"]


async def test_a_batch_is_shown_line_by_line_with_its_sums_and_signed_once(
    api: Harness, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(api.tenant.keys["approve"])
    for name in ("alice", "bob"):
        pem = approver_key(name).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (tmp_path / f"{name}.pem").write_bytes(pem)
        (tmp_path / f"{name}.pem").chmod(0o600)
    line = {"wallet_id": api.tenant.wallet, "asset": XLM.text, "destination": STRANGER}
    body = {"lines": [{**line, "amount": "10000000"}, {**line, "amount": "5000000"}]}
    made = await api.post("/v1/withdrawal-batches", body, key="batch", scope="write")
    assert made.status_code == 201, made.json()
    assert (await api.post("/v1/withdrawal-batches", body, key="batch", scope="write")).json() == made.json()
    asked = made.json()
    first = asked["lines"][0]["id"]
    alone = await api.get(f"/v1/approvals/{first}")
    assert (alone.json()["missing"], (await api.get("/v1/approvals")).json()["data"]) == (2, [])
    async with served(api.asgi) as url:
        common = ("--api", url, "--token-file", str(token))
        code, out, err = await custody(*common, "list")
        assert (code, err) == (0, "")
        assert "batch of 2  1.5000000 XLM" in out
        for name, state in (("alice", "awaiting_approval"), ("bob", "approved"), ("bob", "approved")):
            person = ("--key-file", str(tmp_path / f"{name}.pem"), "--approver", name, "--yes")
            code, out, read = await custody(*common, *person, asked["id"])
            assert code == 0, read
            assert read.count(STRANGER) >= 2
            assert "1.0000000 XLM (10000000 stroops) to" in read
            assert "2 payments, together:" in read
            assert "1.5000000 XLM (15000000 stroops)  from omnibus on stellar:devnet" in read
            assert asked["digest"][:8] in read
            assert out.endswith(f"state: {state}\n")
        assert "0 waiting" in (await custody(*common, "list"))[1]
    found = (await api.get(f"/v1/batch-approvals/{asked['id']}")).json()
    assert [each["approver"] for each in found["decisions"]] == ["alice", "bob"]
    query = "query($id: ID!) { withdrawalBatch(id: $id) { missing digest lines { id state } } }"
    shown = (await api.graphql(query, id=asked["id"]))["data"]["withdrawalBatch"]
    assert (shown["missing"], shown["digest"]) == (0, asked["digest"])
    assert [each["state"] for each in shown["lines"]] == ["approved"] * 2
    taken_back = await api.post(f"/v1/withdrawal-batches/{asked['id']}/cancel", {}, key="back", scope="write")
    assert [each["state"] for each in taken_back.json()["lines"]] == ["cancelled"] * 2
    listed = (await api.get("/v1/withdrawal-batches", scope="read")).json()["data"]
    assert [each["id"] for each in listed] == [asked["id"]]
