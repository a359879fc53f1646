"""Keys for deposit addresses by a real signer on a SoftHSM token: killed in the middle, worked by hand, swept on a real chain."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from custody.chains.evm.address import checksum
from custody.chains.evm.rpc import EvmRpc
from custody.chains.jsonrpc import JsonRpc
from custody.chains.ports import SubmissionStatus
from custody.db.session import Database
from custody.deposits import execution, key_pool
from custody.identity import service as identity
from custody.identity.model import Principal
from custody.kernel.errors import Unavailable
from custody.kernel.ids import CustomerId, PrincipalId, TenantId, WalletId, new_uuid
from custody.signing.client import SignerClient
from custody.signing.intent_fields import org_name
from custody.wallets import keys as pool
from custody.wallets import service as wallets
from devnet.anvil import CHAIN_ID
from devnet.evm import Outsider
from signer.protocol import canonical
from signer.protocol.attestation import VAULT
from signer.protocol.intents.evm import EvmErc20Sweep, EvmSweep
from signer.protocol.messages import EvmBinding, KeyList, KeyView, ListKeys, PublicKey, Refused, Sign, Signed
from tests.commands import custody
from tests.fakes.signer_kinds import make_kind
from tests.fakes.signer_people import approve, key_rules, make_policy, make_rule
from tests.integration.evm_stage import CHAIN, node, outsider
from tests.integration.signer_harness import MODULE, SignerProcess
from tests.integration.test_deposit_keys_trust import insert
from tests.integration.test_operator import CONFIGURATION

__all__ = ["node", "outsider"]

pytestmark = [pytest.mark.stack, pytest.mark.skipif(not MODULE.exists(), reason="needs softhsm2")]
BATCH = 200
GWEI = 10**9


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignerProcess]:
    """Sweeps of ether into the omnibus vault are let through with nobody asked; tokens need two people."""
    window = {"seconds": 3600, "amount_max": str(10**20), "count_max": 50}
    inward = {"vault": "deposit", "destinations": ["vault:omnibus"]}
    rules = [
        make_rule("sweep", kind="evm_sweep", asset="native", windows=[window], approvals=[], **inward),
        make_rule("sweep-tokens", kind="evm_erc20_sweep", **inward),
        *key_rules(),
    ]
    made = SignerProcess(tmp_path_factory.mktemp("signer"))
    made.prepare(make_policy(allow=rules))
    made.start()
    yield made
    assert made.stop() == 0


class Site:
    """A tenant with the product's own client of the signer."""

    def __init__(self, db: Database, tenant: TenantId, signer: SignerProcess) -> None:
        self.db, self.tenant, self.process = db, tenant, signer
        self.client = SignerClient(str(signer.directory / "s.sock"), timeout_s=30)
        self.principal = Principal(
            tenant=tenant, id=PrincipalId(new_uuid()), subject="operator", scopes=frozenset({"operate"})
        )

    async def fill(self, keys: int, batch_size: int) -> int:
        return await key_pool.refill(self.db, self.client, self.tenant, low_water=keys, batch_size=batch_size)

    async def free(self) -> int:
        async with self.db.read(self.tenant) as session:
            return (await pool.depth(session)).free

    async def open_wallet(self, name: str) -> WalletId:
        async with self.db.unit_of_work(self.tenant) as uow:
            customer = await wallets.create_customer(
                uow, "test", CustomerId(new_uuid()), name=name, external_ref=name
            )
            return (await wallets.create_wallet(uow, "test", WalletId(new_uuid()), customer.id, name)).id

    def held(self, vault: str) -> list[str]:
        """Ids of the tenant's keys in a vault, by the signer."""
        found: list[str] = []
        start = 0
        while True:
            page = self.process.ask(ListKeys(org=org_name(self.tenant), start=start))
            assert isinstance(page, KeyList)
            found += [view.key_id for view in page.keys if view.vault == vault]
            start += len(page.keys)
            if start >= page.total:
                return found


@pytest.fixture
def site(database: Database, signer: SignerProcess) -> Site:
    """Each test its own org of the one signer."""
    return Site(database, TenantId(1000 + secrets.randbelow(10**8)), signer)


async def test_a_signer_killed_in_the_middle_of_a_batch_loses_and_doubles_no_key(
    site: Site, signer: SignerProcess
) -> None:
    for kill_at in (1, 5):
        before = len(signer.journal.read_bytes().splitlines())
        filling = asyncio.create_task(site.fill(await site.free() + 1, BATCH))
        await asyncio.to_thread(wait_for_entries, signer, before + kill_at)
        await asyncio.to_thread(signer.kill)
        with pytest.raises(Unavailable):
            await filling
        await asyncio.to_thread(signer.start)
        begun = len(site.held("deposit"))
        assert begun < await site.free() + BATCH
        # Several workers take it up at once.
        added = await asyncio.gather(*(site.fill(1, BATCH) for _ in range(3)))
        assert sum(added) == BATCH
    async with site.db.read(site.tenant) as session:
        stored = await pool.list_keys(session, "", 1000)
    assert len(stored) == len({key.account for key in stored}) == 2 * BATCH
    assert sorted(site.held("deposit")) == sorted(key.key_id for key in stored)
    assert len(site.held(VAULT)) == 1


def wait_for_entries(signer: SignerProcess, count: int) -> None:
    while len(signer.journal.read_bytes().splitlines()) < count:
        time.sleep(0.001)


async def test_an_operator_sees_fills_and_checks_the_pool(site: Site, tmp_path: Path) -> None:
    async with site.db.unit_of_work(None) as uow:
        site.tenant = await identity.create_tenant(uow, "acme")
    configuration = tmp_path / "custody.toml"
    written = CONFIGURATION.format(url=site.db.url).replace(
        "/nonexistent/signer.sock", str(site.process.directory / "s.sock")
    )
    configuration.write_text(written + "deposit_pool = { low_water = 4, batch_size = 3 }\n")

    async def run(*words: str) -> tuple[int, str, str]:
        asked = ("addresses", *words, "--tenant", str(site.tenant))
        done = await asyncio.to_thread(custody, configuration, *asked)
        return done.returncode, done.stdout, done.stderr

    code, out, _ = await run("status")
    assert (code, json.loads(out)["free"], json.loads(out)["low_water"]) == (1, 0, 4)
    code, out, _ = await run("fill")
    assert (code, json.loads(out)) == (0, {"added": 6})
    code, out, _ = await run("fill", "--keys", "7")
    assert (code, json.loads(out)) == (0, {"added": 3})
    code, out, _ = await run("status")
    told = {"free": 9, "low_water": 4, "taken": 0, "set_aside": 0, "asked": 0, "refusal": ""}
    assert (code, json.loads(out)) == (0, told)
    clean = {"keys": 9, "renewed": [], "foreign": [], "misdirected": []}
    code, out, _ = await run("check")
    assert (code, json.loads(out)) == (0, clean)
    async with site.db.read(site.tenant) as session:
        first = (await pool.list_keys(session, "", 1))[0]
    forged = {
        "key_id": "ee" * 16,
        "account": "0x" + "7" * 40,
        "public_key": first.public_key,
        "attestation": first.attestation,
    }
    await insert(site.db, site.tenant, forged)
    code, out, _ = await run("check")
    assert (code, json.loads(out)) == (1, {**clean, "keys": 10, "foreign": [forged["account"]]})
    for expected in (0, 2):
        code, _, err = await run("set-aside", str(forged["key_id"]), "--reason", "not the signer's")
        assert code == expected
    assert err.startswith("custody addresses: deposit_key_not_free: ")
    code, out, _ = await run("check")
    assert (code, json.loads(out)) == (0, clean)
    code, _, err = await run("fill", "--keys", "0")
    assert (code, "a number of keys from 1 to 100000" in err) == (2, True)
    site.process.kill()
    try:
        code, _, err = await run("fill", "--keys", "50")
        assert (code, err.startswith("custody addresses: signer_unreachable: ")) == (2, True)
    finally:
        site.process.start()
    code, out, _ = await run("status")
    assert (code, json.loads(out)["asked"]) == (0, 3)


async def test_an_address_of_the_pool_is_swept_into_the_omnibus_vault_by_its_wrapped_key(
    site: Site, node: str, outsider: Outsider
) -> None:
    await site.fill(1, 3)
    omnibus = await execution.create_vault(site.db, site.client, site.principal, CHAIN, new_uuid())
    address = await execution.issue_address(
        site.db, site.client, site.principal, await site.open_wallet("ada"), CHAIN, new_uuid()
    )
    token = checksum(await outsider.deploy_token())
    await outsider.send_ether(address.address, 10**18)
    await outsider.mint(token, address.address, 700)
    async with site.db.read(site.tenant) as session:
        vault = await wallets.get_vault(session, address.vault_id)
    key = site.process.ask(PublicKey(key_id=vault.key_id))
    assert isinstance(key, KeyView)
    assert (key.storage, key.vault, key.address) == ("wrapped", "deposit", address.address)
    inward = {"destination": omnibus.account, "destination_vault": "omnibus", "gas_limit": 90_000}
    chain = EvmRpc(CHAIN, JsonRpc(node), CHAIN_ID)
    try:
        tokens: EvmErc20Sweep = make_kind(
            "evm_erc20_sweep", key, int(time.time()), token=token, amount=700, **inward
        )
        assert refusal_of(sign(site, tokens, 0)) == "quorum_missing"
        await broadcast(chain, sign(site, tokens, 0, "alice", "bob"))
        ether: EvmSweep = make_kind(
            "evm_sweep", key, int(time.time()), amount=9 * 10**17, **{**inward, "gas_limit": 21_000}
        )
        await broadcast(chain, sign(site, ether, 1))
        away = make_kind(
            "evm_sweep",
            key,
            int(time.time()),
            **{**inward, "destination": checksum(await outsider.address())},
        )
        assert refusal_of(sign(site, away, 2)) == "foreign_destination"
        await outsider.mine()
        assert await outsider.balance(omnibus.account) == 9 * 10**17
        assert await outsider.token_balance(token, omnibus.account) == 700
        assert await outsider.token_balance(token, address.address) == 0
        assert 0 < await outsider.balance(address.address) < 10**17
    finally:
        await chain.aclose()


def sign(site: Site, intent: EvmSweep | EvmErc20Sweep, nonce: int, *people: str) -> Signed | Refused:
    data = canonical.encode(intent)
    binding = EvmBinding(nonce=nonce, max_fee_per_gas=10 * GWEI, max_priority_fee_per_gas=GWEI)
    answer = site.process.ask(Sign(intent=data, approvals=approve(data, *people), binding=binding))
    assert isinstance(answer, Signed | Refused)
    return answer


def refusal_of(answer: Signed | Refused) -> str:
    assert isinstance(answer, Refused)
    return answer.code


async def broadcast(chain: EvmRpc, answer: Signed | Refused) -> None:
    assert isinstance(answer, Signed), answer
    submitted = await chain.submit(answer.tx, f"0x{answer.tx_hash}")
    assert submitted.status is SubmissionStatus.ACCEPTED, submitted
