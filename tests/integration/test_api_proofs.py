"""A customer's own proof of liabilities over HTTP: it holds outside, it is the caller's tenant's, and asking writes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from custody import worker
from custody.db.session import Database
from tests.fakes.checkpoint_desk import CheckpointDesk
from tests.integration.api_harness import EUR, FUNDS, XLM, Harness, running

SCRIPT = Path(__file__).parents[2] / "docs" / "verify_balance.py"
PROOF = """
query ($id: ID!, $asset: ID!) {
  liabilities { asset checkpoint total root }
  wallet(id: $id) { liabilityProof(asset: $asset) { asset { id } checkpoint balance root total document } }
}
"""


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    async with running(database) as harness:
        yield harness


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[CheckpointDesk]:
    desk = CheckpointDesk(tmp_path)
    yield desk
    desk.close()


async def ask(api: Harness, wallet: str, asset: str = XLM.text, **options: Any) -> dict[str, Any]:
    return await api.graphql(PROOF, id=wallet, asset=asset, **options)


def codes(answer: dict[str, Any]) -> set[str]:
    return {error["extensions"]["code"] for error in answer.get("errors", ())}


def check_outside(folder: Path, document: str, root: str) -> str:
    path = folder / "mine.json"
    path.write_text(document)
    words = [sys.executable, "-I", str(SCRIPT), str(path), root]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


async def test_a_wallets_own_proof_holds_outside(
    api: Harness, database: Database, signer: CheckpointDesk, tmp_path: Path
) -> None:
    await worker.seal_all(database, signer)
    answer = await ask(api, api.tenant.wallet)
    assert "errors" not in answer
    proof = answer["data"]["wallet"]["liabilityProof"]
    (published,) = [one for one in answer["data"]["liabilities"] if one["asset"] == XLM.text]
    assert (proof["balance"], proof["asset"]["id"], proof["checkpoint"]) == (str(FUNDS), XLM.text, "1")
    assert (proof["root"], proof["total"]) == (published["root"], published["total"])
    told = check_outside(tmp_path, proof["document"], published["root"])
    assert f"balance   {FUNDS}" in told
    listed = (await api.get("/v1/liabilities")).json()["data"]
    assert [one["root"] for one in listed if one["asset"] == XLM.text] == [published["root"]]
    mine = (await api.get(f"/v1/wallets/{api.tenant.wallet}/liability-proofs")).json()["data"]
    documents = {one["asset"]: one["proof"] for one in mine}
    assert documents[XLM.text] == json.loads(proof["document"])


async def test_before_anything_is_published_the_answer_is_not_sealed(api: Harness) -> None:
    answer = await ask(api, api.tenant.wallet)
    assert codes(answer) == {"not_sealed"}
    for path in ("/v1/liabilities", f"/v1/wallets/{api.tenant.wallet}/liability-proofs"):
        refused = await api.get(path)
        assert (refused.status_code, refused.json()["code"]) == (422, "not_sealed")


async def test_a_wallet_that_is_owed_nothing_has_no_proof(
    api: Harness, database: Database, signer: CheckpointDesk
) -> None:
    await worker.seal_all(database, signer)
    answer = await ask(api, api.tenant.empty_wallet)
    assert codes(answer) == {"not_in_liabilities"}
    assert answer["data"]["wallet"] == {"liabilityProof": None}
    assert codes(await ask(api, api.tenant.wallet, EUR.text)) <= {"not_in_liabilities"}
    assert codes(await ask(api, api.tenant.wallet, "no asset")) == {"malformed_asset_id"}
    none = await api.get(f"/v1/wallets/{api.tenant.empty_wallet}/liability-proofs")
    assert (none.status_code, none.json()["data"]) == (200, [])


async def test_another_tenants_wallet_is_not_found(
    api: Harness, database: Database, signer: CheckpointDesk
) -> None:
    await worker.seal_all(database, signer)
    answer = await ask(api, api.tenant.wallet, tenant=api.other)
    assert answer["data"]["wallet"] is None
    path = f"/v1/wallets/{api.tenant.wallet}/liability-proofs"
    assert (await api.get(path)).status_code == 200
    refused = await api.get(path, tenant=api.other)
    assert (refused.status_code, refused.json()["code"]) == (404, "unknown_wallet")


async def test_asking_writes_nothing(
    api: Harness, database: Database, signer: CheckpointDesk, admin_dsn: str
) -> None:
    await worker.seal_all(database, signer)
    await api.post("/v1/withdrawals", {})
    before = await api.row_counts(admin_dsn)
    await ask(api, api.tenant.wallet)
    await api.get(f"/v1/wallets/{api.tenant.wallet}/liability-proofs")
    assert await api.row_counts(admin_dsn) == before


async def test_one_answer_holds_a_bounded_number_of_proofs(
    api: Harness, database: Database, signer: CheckpointDesk
) -> None:
    """A proof costs more than other objects do; without a bound one query could ask for ten thousand."""
    for number in range(50):
        made = await api.post("/v1/wallets", {"customer_id": api.tenant.customer, "name": f"w{number}"})
        assert made.status_code == 201
    await worker.seal_all(database, signer)
    proofs = f'wallets(first: 60) {{ edges {{ node {{ liabilityProof(asset: "{XLM.text}") {{ root }} }} }} }}'
    assert codes(await api.graphql(f"{{ {proofs} }}")) == {"not_in_liabilities"}
    assert "query_too_costly" in codes(await api.graphql(f"{{ a: {proofs} b: {proofs} }}"))
