"""A tenant whose people sign in at a provider of their own, have passkeys, and confirm what they administer with them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from hashlib import sha256
from typing import Any

import httpx

from custody.db.session import Database
from custody.identity import people
from signer.protocol.webauthn import decode_base64url, encode_base64url
from tests.fakes.authenticator import Authenticator, Bend
from tests.fakes.identity_provider import IdentityProvider, running_provider
from tests.integration.api_harness import Harness, running
from tests.integration.test_api_identity import OPERATOR, get, issuer_of, post, roles
from tests.postgres import Cluster


@contextmanager
def identity_provider() -> Iterator[IdentityProvider]:
    """The provider, with a key."""
    with running_provider() as started:
        started.publish("ec", "ES256")
        yield started


@asynccontextmanager
async def administered(cluster: Cluster, provider: IdentityProvider) -> AsyncIterator[Harness]:
    """The application, for whose first tenant the provider speaks."""
    name = await cluster.create()
    database = Database(cluster.dsn(name, "custody_app"), pool_size=10)
    async with running(database) as harness:
        async with database.unit_of_work(harness.tenant.id) as uow:
            await people.trust(uow, OPERATOR, issuer_of(harness, provider), plain_http=True)
        yield harness
    await database.close()
    await cluster.drop(name)


async def person(
    api: Harness, provider: IdentityProvider, name: str, *words: str
) -> tuple[str, Authenticator]:
    """A person of these roles in a sign-in of today, with a passkey."""
    token = provider.token(name, sid=f"{name}-today", amr=["hwk"], **roles(*words))
    passkey = Authenticator(name=name)
    assert (await post(api, token, "/v1/admin-passkeys", passkey.entry())).status_code == 201
    return token, passkey


async def confirm(
    api: Harness, token: str, refused: httpx.Response, passkey: Authenticator, bend: Bend | None = None
) -> httpx.Response:
    """What the page does: read the action that was refused, and have the passkey sign it."""
    assert refused.json()["code"] == "step_up_required", refused.text
    asked = (await get(api, token, refused.json()["confirm_url"].replace("/confirm/", "/v1/step-up/"))).json()
    return await post(api, token, "/v1/step-up", body_of(asked, passkey, bend))


def body_of(asked: dict[str, Any], passkey: Authenticator, bend: Bend | None = None) -> dict[str, str]:
    """The answer to what was asked."""
    digest = sha256(b"custody-action-v1\0" + asked["action"].encode()).digest()
    assert digest.hex() == asked["action_sha256"]
    challenge = sha256(b"custody-step-up-v1\0" + decode_base64url(asked["nonce"]) + digest).digest()
    made = passkey.sign(challenge, bend or Bend())
    return {
        "id": asked["id"],
        "credential_id": made.credential_id,
        "authenticator_data": encode_base64url(made.authenticator_data),
        "client_data_json": encode_base64url(made.client_data_json),
        "signature": encode_base64url(made.signature),
    }


def role(name: str, *permissions: str, version: int = 1) -> dict[str, Any]:
    return {"role": f"own:{name}", "permissions": list(permissions), "version": version}
