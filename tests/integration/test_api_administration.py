"""What administrators do: each action confirmed by itself with a passkey, and roles of the tenant's own."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from hashlib import sha256
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from api.auth import requires
from api.gate import Gate
from api.rest import router as rest
from api.rest.step_up import verify
from custody.audit import service as audit
from custody.db.session import Database
from custody.identity import people, people_store, role_store, step_up
from custody.identity import service as identity
from custody.identity.cache import PrincipalCache
from custody.identity.errors import StepUpRefused
from custody.identity.roles import OWN_GRANTABLE, PERMISSIONS
from custody.identity.step_up import Answer
from custody.kernel.ids import derived_uuid, parse_id
from signer.protocol.webauthn import decode_base64url, encode_base64url
from tests.fakes.authenticator import Authenticator, Bend
from tests.fakes.identity_provider import IdentityProvider, running_provider
from tests.integration.api_harness import Harness, running
from tests.integration.test_api_identity import OPERATOR, gate, get, issuer_of, post, roles
from tests.postgres import Cluster

ISSUE = {"subject": "someone", "roles": ["viewer"], "expires_in_s": 86_400}


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with running_provider() as started:
        started.publish("ec", "ES256")
        yield started


@pytest.fixture(scope="module")
async def api(cluster: Cluster, provider: IdentityProvider) -> AsyncIterator[Harness]:
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


async def chief(api: Harness, *more: str) -> str:
    """The key of a machine that administers, and has these roles as well."""
    async with api.app.db.unit_of_work(api.tenant.id) as uow:
        issued = await identity.issue_api_key(
            uow, f"chief-{'-'.join(more)}", roles=("admin", "automation", *more)
        )
    return issued.secret


def role(name: str, *permissions: str, version: int = 1) -> dict[str, Any]:
    return {"role": f"own:{name}", "permissions": list(permissions), "version": version}


async def give(api: Harness, giver: str, subject: str, *names: str) -> httpx.Response:
    return await post(api, giver, "/v1/api-keys", {"subject": subject, "roles": list(names)})


async def test_a_role_of_ones_own_opens_exactly_its_permissions(api: Harness) -> None:
    allowed = {"customers:read", "wallets:read", "audit:read"}
    giver = await chief(api)
    made = await post(api, giver, "/v1/roles", role("support", *allowed))
    assert made.status_code == 201, made.text
    key = (await give(api, giver, "helper", "own:support")).json()["secret"]
    me = (await get(api, key)).json()
    assert (me["roles"], set(me["permissions"])) == (["own:support"], allowed)
    opened = set()
    for path, any_of in doors():
        answer = await get(api, key, path)
        assert (answer.json().get("code") != "missing_scope") == bool(allowed & any_of), (path, answer.text)
        opened |= allowed & any_of
    assert opened == allowed
    commands = ("/v1/customers", "/v1/wallets", "/v1/roles", "/v1/members")
    assert {(await post(api, key, path, {})).json()["code"] for path in commands} == {"missing_scope"}
    for own in (True, False):
        whose = api.tenant if own else api.other
        assert (await get(api, key, f"/v1/wallets/{whose.wallet}")).status_code == (200 if own else 404)


def doors() -> Iterator[tuple[str, frozenset[str]]]:
    """Every route that reads, filled with ids of nothing, and the permissions of which it asks for one."""
    for part in rest.parts():
        for route in part.routes:
            if isinstance(route, APIRoute) and "GET" in (route.methods or ()):
                asked = [
                    each.call for each in route.dependant.dependencies if isinstance(each.call, requires)
                ]
                if asked:
                    yield re.sub(r"\{[a-z_]+\}", "x_" + "0" * 32, route.path), frozenset(asked[0].any_of)


async def test_a_role_is_superseded_and_retired_for_all_who_have_it_at_once_and_never_edited(
    api: Harness,
) -> None:
    giver = await chief(api)
    made = (await post(api, giver, "/v1/roles", role("desk", "customers:read"))).json()
    key = (await give(api, giver, "clerk", "own:desk")).json()
    secret, path = key["secret"], f"/v1/roles/{made['id']}"
    await post(api, giver, "/v1/members", {"subject": "member", "roles": ["own:desk"]})
    assert (await get(api, secret, "/v1/customers")).status_code == 200
    for version in (1, 3):
        body = role("desk", "wallets:read", version=version)
        assert (await post(api, giver, "/v1/roles", body)).json()["code"] == "role_version_conflict"
    assert (await post(api, giver, "/v1/roles", role("desk", "wallets:read", version=2))).status_code == 201
    assert (await get(api, secret, "/v1/customers")).json()["code"] == "missing_scope"
    assert (await get(api, secret)).json()["permissions"] == ["wallets:read"]
    ended = await post(api, giver, f"{path}/retire", {"note": "closed"})
    assert (ended.status_code, ended.json()["retired"], ended.json()["permissions"]) == (200, True, [])
    assert (await get(api, secret)).json()["permissions"] == []
    assert (await give(api, giver, "late", "own:desk")).json()["code"] == "unknown_role"
    rotated = await post(api, giver, f"/v1/api-keys/{key['id']}/rotate", {"overlap_s": 0})
    assert rotated.json()["code"] == "key_not_active"
    again = await post(api, giver, "/v1/roles", role("desk", "customers:read", version=4))
    assert again.json()["code"] == "role_retired"
    versions = (await get(api, giver, path)).json()["data"]
    assert [(each["version"], each["permissions"], each["note"]) for each in versions] == [
        (3, [], "closed"), (2, ["wallets:read"], ""), (1, ["customers:read"], ""),
    ]  # fmt: skip
    listed = {each["role"]: each for each in (await get(api, giver, "/v1/roles")).json()["data"]}
    assert (listed["own:desk"]["version"], listed["viewer"]["id"]) == (3, None)
    for other in ("all", "read"):
        answer = await api.get(path, scope=other, tenant=api.other)
        assert answer.json()["code"] in ("missing_scope", "role_not_found")
    async with api.app.db.unit_of_work(api.other.id) as uow:
        stranger = (await identity.issue_api_key(uow, "stranger", roles=("admin", "automation"))).secret
    assert (await get(api, stranger, path)).json()["code"] == "role_not_found"
    assert (await post(api, stranger, f"{path}/retire", {})).json()["code"] == "role_not_found"
    assert (await give(api, stranger, "x", "own:support")).json()["code"] == "unknown_role"
    async with api.app.db.read(api.tenant.id) as session:
        said = [
            each.action
            for each in await audit.page(session, 0, 1000)
            if each.object_id == parse_id("rol", made["id"])
        ]
    assert said == ["role.define", "role.supersede", "role.retire"]


async def test_what_a_role_allowed_is_forgotten_here_at_once_and_elsewhere_after_its_time(
    api: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = [0.0]
    here, elsewhere = gate(api), Gate(api.app)
    for each in (here, elsewhere):
        monkeypatch.setattr(each, "cache", PrincipalCache(lambda: seconds[0], 3.0))
    giver = await chief(api)
    made = (await post(api, giver, "/v1/roles", role("shift", "customers:read"))).json()
    key = (await give(api, giver, "worker", "own:shift")).json()["secret"]

    async def allowed() -> list[bool]:
        return [bool((await each.identify(key)).permissions) for each in (here, elsewhere)]

    assert await allowed() == [True, True]
    since, worker = here.cache.forgotten, await here.identify(key)
    assert (await post(api, giver, f"/v1/roles/{made['id']}/retire", {})).status_code == 200
    here.cache.keep(key, worker, since)  # by a request that had looked it up before, and took longer
    assert await allowed() == [False, True]
    seconds[0] = 3.0
    assert await allowed() == [False, False]


async def test_nobody_makes_or_gives_a_role_that_allows_more_than_they_may(api: Harness) -> None:
    giver, money = await chief(api), await chief(api, "treasurer")
    for body, code in (
        (role("payer", "payouts:request"), "role_not_grantable"),
        (role("boss", "members:write"), "permission_reserved"),
        (role("robot", "admin:unattended"), "permission_reserved"),
        (role("dream", "moon:read"), "unknown_permission"),
        ({**role("x", "read"), "role": "treasurer"}, "malformed_role"),
    ):
        assert (await post(api, giver, "/v1/roles", body)).json()["code"] == code
    assert (await post(api, money, "/v1/roles", role("payer", "payouts:request"))).status_code == 201
    assert (await give(api, giver, "someone", "own:payer")).json()["code"] == "role_not_grantable"
    payer = {"subject": "pat", "roles": ["own:payer"]}
    assert (await post(api, giver, "/v1/members", payer)).json()["code"] == "role_not_grantable"
    assert (await post(api, money, "/v1/members", payer)).status_code == 200
    # What they have already is not given again: it may stay while the rest changes.
    assert (await post(api, giver, "/v1/members", payer | {"disabled": True})).status_code == 200
    assert (await give(api, money, "chief-treasurer", "own:payer")).json()["code"] == "role_not_grantable"
    async with api.app.db.unit_of_work(api.tenant.id) as uow:
        await people_store.set_member(uow, "chief-treasurer", frozenset({"own:payer"}), disabled=False)
    wider = role("payer", "payouts:request", "payouts:cancel", version=2)
    assert (await post(api, money, "/v1/roles", wider)).json()["code"] == "role_not_grantable"
    assert (
        await post(api, money, "/v1/roles", role("mint", "customer_tokens:issue", "customers:read"))
    ).is_success
    minter = (await give(api, money, "app-server", "own:mint")).json()["secret"]
    path = f"/v1/customers/{api.tenant.customer}/tokens"
    spends = await post(api, minter, path, {"permissions": ["withdrawals:request"]})
    assert spends.json()["code"] == "role_not_grantable"
    assert (await post(api, minter, path, {})).status_code == 201


async def test_the_database_refuses_roles_that_administer_or_follow_none(api: Harness) -> None:
    async def write(version: int, *permissions: str) -> None:
        async with api.app.db.unit_of_work(api.tenant.id) as uow:
            await role_store.insert_role(
                uow,
                derived_uuid("bare", api.tenant.id),
                version,
                name="own:bare",
                permissions=frozenset(permissions),
                actor="test",
                note="",
            )

    for version, permission in [(1, each) for each in PERMISSIONS - OWN_GRANTABLE] + [(2, "read")]:
        with pytest.raises(IntegrityError):
            await write(version, permission)
    await write(1, "read")
    await write(2)
    with pytest.raises(IntegrityError):
        await write(3, "read")


async def test_roles_are_defined_given_and_retired_with_a_passkey(
    api: Harness, provider: IdentityProvider
) -> None:
    dana, passkey = await person(api, provider, "dana", "boss")
    refused = await post(api, dana, "/v1/roles", role("guest", "assets:read"), key="define")
    assert (await confirm(api, dana, refused, passkey)).status_code == 200
    made = await post(api, dana, "/v1/roles", role("guest", "assets:read"), key="define")
    assert made.status_code == 201
    token = provider.token("gus", **roles())
    assert (await get(api, token, "/v1/assets")).status_code == 403
    guest = {"subject": "gus", "roles": ["own:guest"]}
    refused = await post(api, dana, "/v1/members", guest, key="give")
    assert (await confirm(api, dana, refused, passkey)).status_code == 200
    assert (await post(api, dana, "/v1/members", guest, key="give")).status_code == 200
    assert (await get(api, token, "/v1/assets")).status_code == 200
    path = f"/v1/roles/{made.json()['id']}/retire"
    refused = await post(api, dana, path, {}, key="retire")
    assert (await confirm(api, dana, refused, passkey)).status_code == 200
    assert (await post(api, dana, path, {}, key="retire")).status_code == 200
    assert (await get(api, token, "/v1/assets")).status_code == 403
