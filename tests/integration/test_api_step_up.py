"""Each administrative action is confirmed by itself with a passkey: read, signed, done once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest
from sqlalchemy import text

from api.rest.step_up import verify
from custody.audit import service as audit
from custody.identity import step_up
from custody.identity.errors import StepUpRefused
from custody.identity.step_up import Answer
from custody.kernel.ids import parse_id
from signer.protocol.webauthn import decode_base64url
from tests.fakes.authenticator import Authenticator, Bend
from tests.fakes.identity_provider import IdentityProvider
from tests.integration.administration_stage import (
    administered,
    body_of,
    confirm,
    identity_provider,
    person,
    role,
)
from tests.integration.api_harness import Harness
from tests.integration.test_api_identity import gate, get, post, roles
from tests.postgres import Cluster

ISSUE = {"subject": "someone", "roles": ["viewer"], "expires_in_s": 86_400}


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with identity_provider() as started:
        yield started


@pytest.fixture(scope="module")
async def api(cluster: Cluster, provider: IdentityProvider) -> AsyncIterator[Harness]:
    async with administered(cluster, provider) as harness:
        yield harness


async def test_a_body_that_is_not_taken_is_refused_and_nothing_of_it_is_kept(
    api: Harness, provider: IdentityProvider
) -> None:
    """A private key that was sent by mistake stands nowhere, and nobody confirms what would be refused."""
    mallory, _ = await person(api, provider, "mallory", "boss")
    leaked = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
    private = {
        "kty": "OKP",
        "crv": "Ed25519",
        "kid": "1",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        "d": leaked,
    }
    for body, pointer in (
        ({"subject": "robot", "roles": ["viewer"], "keys": [private]}, "/keys/0"),
        ({"subject": "robot", "roles": ["viewer"], "keys": [], "password": leaked}, "/keys"),
    ):
        answer = await post(api, mallory, "/v1/oauth-clients", body)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
        assert leaked not in answer.text
    assert (await post(api, mallory, "/v1/api-keys", {"roles": 7})).status_code == 422
    async with api.app.db.read(api.tenant.id) as session:
        kept = (await session.conn.execute(text("SELECT action FROM step_ups"))).scalars().all()
    assert [each for each in kept if each and (leaked in each or '"subject":"mallory"' in each)] == []


async def test_a_confirmation_opens_the_one_action_that_was_read_and_only_once(
    api: Harness, provider: IdentityProvider
) -> None:
    ada, passkey = await person(api, provider, "ada", "boss")
    refused = await post(api, ada, "/v1/api-keys", ISSUE, key="one")
    again = await post(api, ada, "/v1/api-keys", dict(reversed(ISSUE.items())), key="one")
    assert again.json()["confirm_url"] == refused.json()["confirm_url"]
    path = refused.json()["confirm_url"].replace("/confirm/", "/v1/step-up/")
    asked = (await get(api, ada, path)).json()
    assert asked["state"] == "asked"
    assert '"does":"Issue a key to somebody else than yourself."' in asked["action"]
    assert '"path":"/v1/api-keys","subject":"ada"' in asked["action"]
    given = body_of(asked, passkey)
    assert (await post(api, ada, "/v1/step-up", given)).status_code == 200
    assert (await get(api, ada, path)).json()["state"] == "confirmed"
    assert "challenge_over" in (await post(api, ada, "/v1/step-up", given)).json()["detail"]
    for other, key in ((ISSUE, "two"), (ISSUE | {"roles": ["treasurer"]}, "one")):
        assert (await post(api, ada, "/v1/api-keys", other, key=key)).json()["code"] == "step_up_required"
    assert (await post(api, ada, "/v1/members", {"subject": "x", "roles": []}, key="one")).status_code == 403
    first = await post(api, ada, "/v1/api-keys", ISSUE, key="one")
    second = await post(api, ada, "/v1/api-keys", ISSUE, key="one")
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json() == {**first.json(), "secret": None}
    async with api.app.db.read(api.tenant.id) as session:
        said = [each for each in await audit.page(session, 0, 1000) if each.action == "passkey.step_up"]
    assert said[-1].detail["action_sha256"] == asked["action_sha256"]
    refused = await post(api, ada, "/v1/roles/%00%3Fx/retire?y=z", {}, key="odd")
    assert (await confirm(api, ada, refused, passkey)).status_code == 200
    path = refused.json()["confirm_url"].replace("/confirm/", "/v1/step-up/")
    assert '"path":"/v1/roles/%00%3Fx/retire?y=z"' in (await get(api, ada, path)).json()["action"]
    another = Authenticator(name="second")
    refused = await post(api, ada, "/v1/admin-passkeys", another.entry(), key="passkey")
    assert (await confirm(api, ada, refused, passkey)).status_code == 200
    assert (await post(api, ada, "/v1/admin-passkeys", another.entry(), key="passkey")).status_code == 201


async def test_a_confirmation_by_others_elsewhere_or_late_counts_for_nothing(
    api: Harness, provider: IdentityProvider
) -> None:
    bob, passkey = await person(api, provider, "bob", "boss")
    eve, of_eve = await person(api, provider, "eve", "boss")
    evening = provider.token("bob", sid="bob-later", **roles("boss"))
    refused = await post(api, bob, "/v1/api-keys", ISSUE, key="late")
    path = refused.json()["confirm_url"].replace("/confirm/", "/v1/step-up/")
    asked = (await get(api, bob, path)).json()
    for token in (eve, evening, api.tenant.keys["all"]):
        assert (await get(api, token, path)).json()["code"] in ("unknown_step_up", "missing_scope")
        answer = await post(api, token, "/v1/step-up", body_of(asked, passkey))
        assert answer.json()["code"] in ("step_up_refused", "missing_scope")
    another = await post(api, bob, "/v1/api-keys", ISSUE, key="another")
    swapped = (await get(api, bob, another.json()["confirm_url"].replace("/confirm/", "/v1/step-up/"))).json()
    for body, reason in (
        (body_of(asked, of_eve), "wrong_credential"),
        (body_of(swapped, passkey) | {"id": asked["id"]}, "wrong_challenge"),
        (body_of(asked, passkey, Bend(flags=0x01)), "user_not_verified"),
        (body_of(asked, passkey, Bend(origin="https://evil.example")), "wrong_origin"),
    ):
        assert reason in (await post(api, bob, "/v1/step-up", body)).json()["detail"]
    principal = await gate(api).identify(bob)
    given = body_of(asked, passkey)
    late = api.app.clock.now() + step_up.READ_WITHIN + timedelta(seconds=1)
    with pytest.raises(StepUpRefused, match="challenge_over"):
        async with api.app.db.unit_of_work(api.tenant.id) as uow:
            await step_up.answer(uow, principal, parse_id("stu", asked["id"]), answer_of(given), verify, late)
    assert (await post(api, bob, "/v1/step-up", given)).status_code == 200
    spent = api.app.clock.now() + step_up.COUNTS_FOR + timedelta(seconds=1)
    with pytest.raises(step_up.StepUpRequired):
        await step_up.demand(api.app.db, principal, asked["action"], spent)
    assert (await post(api, evening, "/v1/api-keys", ISSUE, key="late")).status_code == 403
    assert (await post(api, eve, "/v1/api-keys", ISSUE, key="late")).status_code == 403
    assert (await post(api, bob, "/v1/api-keys", ISSUE, key="late")).status_code == 201


async def test_a_stolen_sign_in_does_not_fill_the_database_with_actions(
    api: Harness, provider: IdentityProvider
) -> None:
    token = provider.token("flo", sid="flood", **roles("boss"))
    long, short = role("long", "x" * (step_up.ACTION_BYTES_MAX - 100)), role("short", "assets:read")
    refused = [(await post(api, token, "/v1/roles", long)).json()]
    refused += [(await post(api, token, "/v1/roles", short)).json() for _ in range(step_up.OPEN_MAX + 1)]
    assert {each["code"] for each in refused} == {"step_up_required"}
    assert ["confirm_url" in each for each in refused] == [False, *[True] * step_up.OPEN_MAX, False]


def answer_of(body: dict[str, str]) -> Answer:
    return Answer(
        credential_id=body["credential_id"],
        authenticator_data=decode_base64url(body["authenticator_data"]),
        client_data_json=decode_base64url(body["client_data_json"]),
        signature=decode_base64url(body["signature"]),
    )
