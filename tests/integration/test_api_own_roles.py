"""Roles of a tenant's own: what they open, who may make and give them, and how they end."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from fastapi.routing import APIRoute
from sqlalchemy.exc import IntegrityError

from api.auth import requires
from api.gate import Gate
from api.rest import router as rest
from custody.audit import service as audit
from custody.identity import people_store, role_store
from custody.identity import service as identity
from custody.identity.cache import PrincipalCache
from custody.identity.roles import OWN_GRANTABLE, PERMISSIONS
from custody.kernel.ids import derived_uuid, parse_id
from tests.fakes.identity_provider import IdentityProvider
from tests.integration.administration_stage import (
    administered,
    confirm,
    identity_provider,
    person,
    role,
)
from tests.integration.api_harness import Harness
from tests.integration.test_api_identity import gate, get, post, roles
from tests.postgres import Cluster


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with identity_provider() as started:
        yield started


@pytest.fixture(scope="module")
async def api(cluster: Cluster, provider: IdentityProvider) -> AsyncIterator[Harness]:
    async with administered(cluster, provider) as harness:
        yield harness


async def chief(api: Harness, *more: str) -> str:
    """The key of a machine that administers, and has these roles as well."""
    async with api.app.db.unit_of_work(api.tenant.id) as uow:
        issued = await identity.issue_api_key(
            uow, f"chief-{'-'.join(more)}", roles=("admin", "automation", *more)
        )
    return issued.secret


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
