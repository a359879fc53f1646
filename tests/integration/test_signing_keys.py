"""Where custody's keys are kept: deposit keys on EVM outside the token, all others inside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from custody.kernel.assetid import ChainId
from custody.kernel.ids import TenantId, new_uuid
from custody.signing.client import SignerClient
from custody.signing.keys import KeyDesk
from tests.fakes.signer_people import make_policy
from tests.integration.signer_harness import MODULE, SignerProcess

pytestmark = [pytest.mark.stack, pytest.mark.skipif(not MODULE.exists(), reason="needs softhsm2")]
TENANT = TenantId(1)


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignerProcess]:
    made = SignerProcess(tmp_path_factory.mktemp("signer"))
    made.prepare(make_policy())
    made.start()
    yield made
    made.kill()


@pytest.mark.parametrize(
    ("purpose", "chain", "storage"),
    [
        ("deposit", "eip155:31337", "wrapped"),
        ("omnibus", "eip155:31337", "token"),
        ("deposit", "stellar:devnet", "token"),
        ("omnibus", "stellar:devnet", "token"),
    ],
)
async def test_each_purpose_has_its_storage(
    signer: SignerProcess, purpose: str, chain: str, storage: str
) -> None:
    socket = str(signer.directory / "s.sock")
    client, desk = SignerClient(socket, timeout_s=30), KeyDesk(socket, timeout_s=30)
    request_id = new_uuid()
    made = await client.create_key(
        request_id=request_id, tenant=TENANT, purpose=purpose, chain=ChainId(chain)
    )
    again = await client.create_key(
        request_id=request_id, tenant=TENANT, purpose=purpose, chain=ChainId(chain)
    )
    assert again == made
    assert (await desk.find_key(made.key_id)).storage == storage
