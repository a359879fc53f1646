"""`custody approve` against the API itself: the approvers' command, over a real socket, on intents that it decodes by itself."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from custody.db.session import Database
from tests.integration.api_harness import STRANGER, XLM, Harness, approver_key, running
from tests.integration.api_server import served

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    async with running(database) as harness:
        yield harness


async def custody(*argv: str) -> tuple[int | None, str, str]:
    """Run the command; how it ended and what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "approve", *argv),
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


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
