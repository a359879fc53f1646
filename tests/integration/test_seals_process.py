"""Sealing as it runs: a real signer process on a real SoftHSM token, the worker's round, and the commands from outside."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from custody import worker
from custody.db.session import Database
from custody.kernel.ids import TenantId, show_id
from custody.seals import execution, service
from custody.signing.checkpoints import message_of
from custody.signing.client import SignerClient
from custody.signing.errors import SignerRefused
from custody.signing.intent_fields import org_name
from signer.protocol.messages import CreateKey, KeyView, PublicKey, Refused, SignCheckpoint, SignedCheckpoint
from tests.commands import custody
from tests.fakes.sealed_books import OWNERS, deposit, open_books, pay, post
from tests.fakes.signer_people import bind_stellar, make_payment, make_policy
from tests.integration.signer_harness import MODULE, ROOT, SignerProcess

pytestmark = [pytest.mark.stack, pytest.mark.skipif(not MODULE.exists(), reason="needs softhsm2")]

SCRIPT = ROOT / "docs" / "verify_transfer.py"
CONFIGURATION = """
environment = "development"
intent_valid_s = 30
chains = []
database = {{ url = "{url}" }}
redis = {{ url = "redis://127.0.0.1:1/0" }}
signer = {{ socket = "{socket}" }}
api = {{ port = 18080 }}
"""


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[SignerProcess]:
    directory = tmp_path / "signer"
    directory.mkdir()
    running = SignerProcess(directory)
    running.prepare(make_policy())
    running.start()
    yield running
    running.kill()


@pytest.fixture
def client(signer: SignerProcess) -> SignerClient:
    return SignerClient(str(signer.directory / "s.sock"))


@pytest.fixture(autouse=True)
async def books(database: Database, tenant: TenantId) -> None:
    await open_books(database, tenant)


def make_vault_key(signer: SignerProcess, tenant: TenantId) -> KeyView:
    asked = CreateKey(
        request_id=str(uuid4()), org=org_name(tenant), vault="omnibus", curve="ed25519", label="o"
    )
    key = signer.ask(asked)
    assert isinstance(key, KeyView)
    return key


async def seals_and_signatures(database: Database, tenant: TenantId, client: SignerClient) -> tuple[int, int]:
    trusted = await execution.trusted_keys(database, client, tenant)
    async with database.read(tenant) as session:
        verified = await service.verify(session, message_of, trusted)
    return verified.seals, verified.checkpoints


async def test_a_worker_with_the_role_of_a_requester_seals_and_signs(
    database: Database, tenant: TenantId, signer: SignerProcess, client: SignerClient
) -> None:
    make_vault_key(signer, tenant)
    signer.stop()
    signer.roles = ["requester"]
    signer.write_config()
    signer.start()
    await worker.seal_all(database, client)
    assert await seals_and_signatures(database, tenant, client) == (1, 1)


async def test_a_tenant_without_a_key_is_sealed_now_and_signed_later(
    database: Database, tenant: TenantId, signer: SignerProcess, client: SignerClient
) -> None:
    signer.stop()
    signer.roles = ["requester"]
    signer.write_config()
    signer.start()
    await worker.seal_all(database, client)
    assert await seals_and_signatures(database, tenant, client) == (1, 0)


async def test_a_signer_that_is_killed_between_two_rounds_signs_on_and_never_another_past(
    database: Database, tenant: TenantId, signer: SignerProcess, client: SignerClient
) -> None:
    await worker.seal_all(database, client)
    signer.kill()
    await post(database, tenant, pay(0, 1, 5))
    await worker.seal_all(database, client)
    signer.start()
    await worker.seal_all(database, client)
    assert await seals_and_signatures(database, tenant, client) == (2, 2)
    async with database.read(tenant) as session:
        key_id = await service.signing_key(session)
    assert key_id is not None
    for sequence, reason in ((2, "checkpoint_exists_different"), (1, "checkpoint_behind")):
        with pytest.raises(SignerRefused) as caught:
            await client.sign_checkpoint(tenant=tenant, key_id=key_id, sequence=sequence, seal_hash=bytes(32))
        assert caught.value.reason == reason


async def test_keys_in_the_hsm_stay_with_their_purpose(
    database: Database, tenant: TenantId, signer: SignerProcess, client: SignerClient
) -> None:
    payment_key = make_vault_key(signer, tenant)
    await worker.seal_all(database, client)
    async with database.read(tenant) as session:
        key_id = await service.signing_key(session)
    assert key_id is not None
    view = signer.ask(PublicKey(key_id=key_id))
    assert isinstance(view, KeyView)
    now = int(signer.journal.stat().st_mtime)
    intent = make_payment(view, now - 10, org=org_name(tenant), vault="checkpoints")
    answer = signer.sign(intent, bind_stellar(intent, 1), "alice", "bob")
    assert isinstance(answer, Refused)
    assert answer.code == "key_purpose"
    wrong = SignCheckpoint(key_id=payment_key.key_id, org=org_name(tenant), sequence=9, hash=bytes(32))
    refused = signer.ask(wrong)
    assert isinstance(refused, Refused)
    assert refused.code == "key_purpose"
    right = signer.ask(SignCheckpoint(key_id=key_id, org=org_name(tenant), sequence=9, hash=bytes(32)))
    assert isinstance(right, SignedCheckpoint)
    assert await client.find_checkpoint_key(tenant, payment_key.key_id) is None
    assert await client.find_checkpoint_key(tenant, "0" * 32) is None


# --- the commands -------------------------------------------------------------------------------------------------------


@pytest.fixture
def configuration(tmp_path: Path, app_dsn: str, signer: SignerProcess) -> Path:
    path = tmp_path / "custody.toml"
    path.write_text(CONFIGURATION.format(url=app_dsn, socket=signer.directory / "s.sock"))
    return path


def audit(configuration: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The `custody audit` command in a process of its own."""
    return custody(configuration, "audit", *words)


def done(configuration: Path, *words: str) -> str:
    ran = audit(configuration, *words)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def check_outside(proof: Path, key: str) -> subprocess.CompletedProcess[str]:
    """The script as a stranger runs it."""
    words = [sys.executable, "-I", str(SCRIPT), str(proof), key]
    return subprocess.run(words, capture_output=True, text=True, check=False)


async def test_the_commands_from_seal_to_a_strangers_check(
    database: Database, tenant: TenantId, configuration: Path, tmp_path: Path
) -> None:
    late = deposit(0, 3)
    await post(database, tenant, late)
    assert audit(configuration, "prove", show_id("trf", late.id)).returncode == 2
    assert "3 batches in 1 new seals" in done(configuration, "seal")
    verified = done(configuration, "verify")
    assert "11 transfers in 3 batches (0 not sealed yet), 1 seals and 1 signatures verify" in verified
    key = verified.rsplit("signed by ", 1)[1].strip()

    proof = tmp_path / "proof.json"
    proof.write_text(done(configuration, "prove", show_id("trf", late.id)))
    ran = check_outside(proof, key)
    assert (ran.returncode, "PROVED" in ran.stdout) == (0, True), ran.stderr

    out = tmp_path / "out"
    assert done(configuration, "export", "--out", str(out)).strip() == f"{tenant}:1"
    assert "11 transfers" in done(configuration, "verify", "--export", str(out), "--key", key)
    stranger = audit(configuration, "verify", "--export", str(out), "--key", "ab" * 32)
    assert (stranger.returncode, "checkpoint_untrusted" in stranger.stderr) == (1, True)
    await post(database, tenant, deposit(0, 3))
    done(configuration, "seal")
    assert done(configuration, "export", "--out", str(out), "--after", f"{tenant}:1").strip() == f"{tenant}:2"

    owed = json.loads(done(configuration, "liabilities"))
    assert sorted((one["asset"], one["total"]) for one in owed) == [
        ("fiat/EUR", "5000"),
        ("stellar:devnet/native", "5006"),
    ]
    mine = json.loads(done(configuration, "liabilities", "--wallet", show_id("wal", OWNERS[0])))
    assert sorted(one["balance"] for one in mine) == ["1000", "1006"]
    assert {(one["asset"], one["root"]) for one in mine} == {(one["asset"], one["root"]) for one in owed}
    assert audit(configuration, "liabilities", "--wallet", show_id("wal", late.id)).returncode == 1


async def test_verify_names_what_was_edited_and_ends_with_one(
    database: Database, tenant: TenantId, configuration: Path, admin_dsn: str
) -> None:
    done(configuration, "seal")
    connection = await asyncpg.connect(admin_dsn)
    await connection.execute("SET session_replication_role = replica")
    row = await connection.fetchval(
        "UPDATE ledger_transfers SET posted = posted + 1 WHERE leaf = 2 RETURNING id"
    )
    await connection.close()
    ran = audit(configuration, "verify")
    assert ran.returncode == 1
    assert f"tenant={tenant}, table=ledger_transfers, row={row}, differs=" in ran.stderr
