"""What the pool of deposit keys leans on in a signer, asked of the fake and of the real one on a SoftHSM token."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator

import pytest

from custody.chains.evm.address import account_of_key
from custody.deposits.ports import BatchMaker, Vouched
from custody.kernel.ids import TenantId, new_uuid
from custody.signing.attestations import is_vouched_for
from custody.signing.client import SignerClient
from custody.signing.errors import SignerRefused
from tests.contract.port_benches import start_signer
from tests.fakes.key_maker import FakeKeyMaker

pytestmark = pytest.mark.stack
MINE, THEIRS, NOBODY = TenantId(1), TenantId(2), TenantId(3)


@pytest.fixture(scope="module", params=["fake", "real"])
def signer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BatchMaker]:
    if request.param == "fake":
        yield FakeKeyMaker()
        return
    process = start_signer(tmp_path_factory.mktemp("signer"))
    process.hang_up()
    yield SignerClient(str(process.directory / "s.sock"), timeout_s=30)
    process.stop()


def passes(key: Vouched, attester: bytes, tenant: TenantId = MINE, purpose: str = "deposit") -> bool:
    return is_vouched_for(
        tenant,
        purpose,
        key_id=key.key_id,
        public_key=key.public_key,
        attestation=key.attestation,
        attester=attester,
    )


async def refused(call: Awaitable[object]) -> str:
    with pytest.raises(SignerRefused) as caught:
        await call
    return caught.value.reason


async def test_the_same_request_makes_the_same_keys_and_each_is_vouched_for(signer: BatchMaker) -> None:
    request_id = new_uuid()
    made = await signer.create_keys(request_id=request_id, tenant=MINE, purpose="deposit", count=5)
    again = await signer.create_keys(request_id=request_id, tenant=MINE, purpose="deposit", count=5)
    assert list(again) == list(made)
    assert len({key.key_id for key in made}) == len({account_of_key(key.public_key) for key in made}) == 5
    attester = await signer.attester(MINE)
    assert all(passes(key, attester) for key in made)
    assert not any(passes(key, attester, THEIRS) for key in made)
    assert not any(passes(key, attester, purpose="omnibus") for key in made)
    assert not any(passes(key, bytes(32)) for key in made)
    wanted = [made[3].key_id, made[1].key_id]
    assert await signer.vouch_for(MINE, "deposit", wanted) == [made[3], made[1]]


async def test_it_vouches_for_nobody_elses_key(signer: BatchMaker) -> None:
    await signer.create_keys(request_id=new_uuid(), tenant=MINE, purpose="deposit", count=1)
    (theirs,) = await signer.create_keys(request_id=new_uuid(), tenant=THEIRS, purpose="deposit", count=1)
    for key_id in (theirs.key_id, new_uuid().hex):
        assert await refused(signer.vouch_for(MINE, "deposit", [key_id])) == "unknown_key"
    assert await refused(signer.attester(NOBODY)) == "unknown_key"
    assert await refused(signer.vouch_for(NOBODY, "deposit", [theirs.key_id])) == "unknown_key"
    assert await signer.attester(MINE) != await signer.attester(THEIRS)


async def test_a_key_of_another_vault_is_none_for_deposits(signer: BatchMaker) -> None:
    await signer.create_keys(request_id=new_uuid(), tenant=MINE, purpose="deposit", count=1)
    (other,) = await signer.create_keys(request_id=new_uuid(), tenant=MINE, purpose="hot", count=1)
    assert passes(other, await signer.attester(MINE), purpose="hot")
    assert await refused(signer.vouch_for(MINE, "deposit", [other.key_id])) == "unknown_key"
