"""Who gets in: people by OIDC, machines by signed requests and by keys that rotate, administrators by passkey."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from api.gate import Gate
from custody.db.session import Database
from custody.identity import people
from custody.identity import service as identity
from custody.identity.keysets import Keysets
from custody.identity.model import Issuer
from custody.kernel.ids import new_uuid
from signer.protocol.webauthn import decode_base64url, encode_base64url
from tests.fakes.authenticator import Authenticator, Bend
from tests.fakes.identity_provider import AUDIENCE, IdentityProvider, jwk_of, new_key, running_provider
from tests.integration.api_harness import Harness, running
from tests.postgres import Cluster

ROLES = {"desk": "treasurer", "look": "viewer", "boss": "admin", "nonsense-free": "auditor"}
OPERATOR = "operator:test"


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with running_provider() as started:
        for kid, algorithm in (("ec", "ES256"), ("rsa", "RS256"), ("pss", "PS256"), ("ed", "EdDSA")):
            started.publish(kid, algorithm)
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


def issuer_of(api: Harness, provider: IdentityProvider, **changed: Any) -> Issuer:
    honest = Issuer(
        tenant=api.tenant.id,
        id=new_uuid(),
        issuer=provider.url,
        audience=AUDIENCE,
        jwks_uri=f"{provider.url}/jwks",
        subject_claim="preferred_username",
        roles_claim="realm_access.roles",
        roles=ROLES,
        mfa_claim="amr",
        mfa_values=("hwk", "otp"),
    )
    return replace(honest, **changed)


def gate(api: Harness) -> Gate:
    found: Gate = api.asgi.state.gate
    return found


async def get(api: Harness, token: str, path: str = "/v1/me") -> httpx.Response:
    return await api.http.get(path, headers={"Authorization": f"Bearer {token}"})


async def post(
    api: Harness, token: str, path: str, body: object = None, key: str | None = None
) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key or uuid4().hex}
    return await api.http.post(path, json=body, headers=headers)


def roles(*words: str) -> dict[str, Any]:
    return {"realm_access": {"roles": list(words)}}


@pytest.mark.parametrize("kid", ["ec", "rsa", "pss", "ed"])
async def test_a_person_is_known_by_the_tenants_provider(
    api: Harness, provider: IdentityProvider, kid: str
) -> None:
    token = provider.token("ada", kid=kid, **roles("look", "unheard-of"))
    me = (await get(api, token)).json()
    assert (me["subject"], me["kind"], me["roles"]) == ("ada", "person", ["viewer"])
    assert (await get(api, token, "/v1/wallets/" + api.tenant.wallet)).status_code == 200
    assert (await get(api, token, "/v1/wallets/" + api.other.wallet)).status_code == 404
    assert (await post(api, token, "/v1/transfers", {})).json()["code"] == "missing_scope"


def unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    return ".".join(encode_base64url(json.dumps(part).encode()) for part in (header, claims))


def forge_none(p: IdentityProvider) -> str:
    return unsigned({"alg": "none", "typ": "JWT"}, p.claims("ada", **roles("boss"))) + "."


def forge_stripped(p: IdentityProvider) -> str:
    return p.token("ada").rpartition(".")[0] + "."


def forge_hmac(p: IdentityProvider) -> str:
    """Signed with the provider's public key as if it were a shared secret."""
    pem = p.keys["rsa"][1].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = unsigned({"alg": "HS256", "kid": "rsa"}, p.claims("ada"))
    mac = hmac.new(pem, head.encode(), hashlib.sha256).digest()
    return f"{head}.{encode_base64url(mac)}"


def forge_wrong_key(p: IdentityProvider) -> str:
    return jwt.encode(p.claims("ada"), new_key("ES256"), algorithm="ES256", headers={"kid": "ec"})


def forge_other_algorithm(p: IdentityProvider) -> str:
    """RS256 by the right key, under the name of a key that is published for PS256 alone."""
    return jwt.encode(p.claims("ada"), p.keys["pss"][1], algorithm="RS256", headers={"kid": "pss"})


def forge_own_key(p: IdentityProvider) -> str:
    """Names a key of the forger's in every way that the header knows."""
    key = new_key("ES256")
    jwk = jwk_of("ES256", key, "mine")
    header = {"kid": "mine", "jwk": jwk, "jku": f"{p.url}/evil", "x5u": f"{p.url}/evil", "x5c": ["MII="]}
    return jwt.encode(p.claims("ada"), key, algorithm="ES256", headers=header)


def forge_swapped(p: IdentityProvider) -> str:
    """Another person's claims under an honest signature."""
    head, _, signature = p.token("ada").split(".")
    body = encode_base64url(json.dumps(p.claims("boss", **roles("boss"))).encode())
    return f"{head}.{body}.{signature}"


ATTACKS: list[tuple[str, Any, str]] = [
    ("none", forge_none, "malformed|algorithm"),
    ("signature left out", forge_stripped, "signature"),
    ("HMAC by the public key", forge_hmac, "algorithm"),
    ("wrong key", forge_wrong_key, "signature"),
    ("algorithm of another key", forge_other_algorithm, "algorithm"),
    ("key in the header", forge_own_key, "unknown_key"),
    ("claims swapped", forge_swapped, "signature"),
    ("expired", lambda p: p.token("ada", iat=now(-4000), exp=now(-70)), "expired"),
    ("not yet", lambda p: p.token("ada", nbf=now(90)), "not_yet_valid"),
    ("issued later", lambda p: p.token("ada", iat=now(90)), "not_yet_valid"),
    ("holds for years", lambda p: p.token("ada", exp=now(10**8)), "lives_too_long"),
    ("never ends", lambda p: p.token("ada", exp=None), "claim_missing"),
    ("other audience", lambda p: p.token("ada", aud="custody2"), "unknown_issuer"),
    ("no audience", lambda p: p.token("ada", aud=None), "unknown_issuer"),
    ("other issuer", lambda p: p.token("ada", iss=p.url + "/"), "unknown_issuer"),
    ("no subject", lambda p: p.token("ada", sub=None), "claim_missing"),
    ("name is no text", lambda p: p.token("ada", preferred_username=7), "subject"),
    ("name that intents cannot carry", lambda p: p.token("ada lovelace\n"), "subject"),
    ("critical extension", lambda p: p.token("ada", header={"crit": ["exp"], "exp": 1}), "malformed|critical_extension"),
    ("ends in words", lambda p: p.token("ada", exp="tomorrow"), "malformed"),
    ("ends nowhere", lambda p: p.token("ada", exp=float("inf")), "malformed"),
    ("too long", lambda p: p.token("ada", note="x" * 9000), "API key"),
]  # fmt: skip


def now(delta: int) -> int:
    return int(time.time()) + delta


@pytest.mark.parametrize(("what", "forge", "reason"), ATTACKS, ids=[each[0] for each in ATTACKS])
async def test_a_token_that_is_not_right_in_all_is_nobody(
    api: Harness, provider: IdentityProvider, what: str, forge: Any, reason: str
) -> None:
    answer = await get(api, forge(provider))
    assert answer.status_code == 401, what
    assert any(word in answer.json()["detail"] for word in reason.split("|")), answer.text


async def test_clocks_may_differ_by_less_than_a_minute(api: Harness, provider: IdentityProvider) -> None:
    for token in (
        provider.token("ada", exp=now(-30), iat=now(-600)),
        provider.token("ada", nbf=now(30), iat=now(30)),
    ):
        assert (await get(api, token)).status_code == 200


async def test_a_flood_of_unknown_keys_costs_one_fetch(provider: IdentityProvider) -> None:
    seconds = [0.0]
    keysets = Keysets(lambda: seconds[0])
    uri, before = f"{provider.url}/jwks", provider.fetches
    assert (await keysets.find(uri, "ec")).kid == "ec"
    for number in range(50):
        with pytest.raises(people.InvalidToken):
            await keysets.find(uri, f"invented-{number}")
    assert provider.fetches == before + 1
    provider.publish("rotated", "ES256")
    with pytest.raises(people.InvalidToken):
        await keysets.find(uri, "rotated")
    seconds[0] = 31.0
    assert (await keysets.find(uri, "rotated")).kid == "rotated"
    assert provider.fetches == before + 2
    provider.published.pop()
    seconds[0] = 31.0 + 3601
    with pytest.raises(people.InvalidToken):
        await keysets.find(uri, "rotated")


async def test_a_disabled_member_is_nobody_and_a_member_has_roles_beside_the_tokens(
    api: Harness, provider: IdentityProvider
) -> None:
    robot = await robot_key(api)
    token = provider.token("mia", **roles("look"))
    assert (await get(api, token)).json()["roles"] == ["viewer"]
    body = {"subject": "mia", "roles": ["approver"]}
    assert (await post(api, robot, "/v1/members", body)).status_code == 200
    assert (await get(api, token)).json()["roles"] == ["approver", "viewer"]
    assert (await post(api, robot, "/v1/members", body | {"disabled": True})).status_code == 200
    assert (await get(api, token)).json()["code"] == "invalid_token"
    listed = (await get(api, robot, "/v1/members")).json()["data"]
    assert [(row["subject"], row["disabled"]) for row in listed] == [("mia", True)]


async def robot_key(api: Harness) -> str:
    """The key of a machine that administers."""
    async with api.app.db.unit_of_work(api.tenant.id) as uow:
        return (await identity.issue_api_key(uow, "robot", roles=("admin", "automation"))).secret


async def test_a_key_is_rotated_while_both_hold_and_then_revoked(api: Harness) -> None:
    robot = await robot_key(api)
    body = {"subject": "billing", "roles": ["viewer"], "expires_in_s": 86_400}
    issued = await post(api, robot, "/v1/api-keys", body, key="issue-billing")
    assert issued.status_code == 201, issued.text
    first = issued.json()
    again = await post(api, robot, "/v1/api-keys", body, key="issue-billing")
    assert again.json() == {**first, "secret": None}
    path = f"/v1/api-keys/{first['id']}"
    second = (await post(api, robot, f"{path}/rotate", {"overlap_s": 60})).json()
    assert second["principal_id"] == first["principal_id"]
    assert second["roles"] == ["viewer"]
    for secret in (first["secret"], second["secret"]):
        assert (await get(api, secret)).json()["principal_id"] == first["principal_id"]
    ended = (await post(api, robot, f"{path}/revoke")).json()
    assert ended["revoked_at"] is not None
    assert (await get(api, first["secret"])).status_code == 401
    assert (await get(api, second["secret"])).status_code == 200
    await gate(api).upkeep.flush()
    shown = {row["id"]: row for row in (await get(api, robot, "/v1/api-keys?limit=100")).json()["data"]}
    assert shown[second["id"]]["last_used_at"] is not None
    assert "secret" not in shown[second["id"]]
    assert (await post(api, robot, f"{path}/rotate", {"overlap_s": 0})).json()["code"] == "key_not_active"


async def test_nobody_gives_roles_to_themselves_and_an_expired_key_is_nobody(api: Harness) -> None:
    robot = await robot_key(api)
    for path, body in (
        ("/v1/api-keys", {"subject": "robot", "roles": ["treasurer"]}),
        ("/v1/members", {"subject": "robot", "roles": ["treasurer"]}),
        ("/v1/oauth-clients", {"subject": "robot", "roles": ["treasurer"], "keys": [{}]}),
    ):
        assert (await post(api, robot, path, body)).json()["code"] == "role_not_grantable"
    unknown = await post(api, robot, "/v1/api-keys", {"subject": "x", "roles": ["emperor"]})
    assert unknown.json()["code"] == "unknown_role"
    async with api.app.db.unit_of_work(api.tenant.id) as uow:
        old = await identity.issue_api_key(uow, "old", ["read"], expires_at=api.app.clock.now())
    assert (await get(api, old.secret)).json()["code"] == "invalid_api_key"


async def test_a_client_signs_for_a_token_once(api: Harness) -> None:
    robot = await robot_key(api)
    key = new_key("EdDSA")
    asked = {"subject": "ledger-sync", "roles": ["viewer", "operator"], "keys": [jwk_of("EdDSA", key, "k1")]}
    client = (await post(api, robot, "/v1/oauth-clients", asked)).json()
    audience = f"{api.app.settings.api.public_url}/oauth/token"

    def sign(using: Any = key, **changed: Any) -> str:
        said = {
            "iss": client["client_id"], "sub": client["client_id"], "aud": audience, "iat": now(0),
            "exp": now(60), "jti": uuid4().hex,
        } | changed  # fmt: skip
        said = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(said, using, algorithm="EdDSA", headers={"kid": "k1"})

    async def ask(assertion: str, **more: str) -> httpx.Response:
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion,
        }
        return await api.http.post("/oauth/token", data=form | more)

    once = sign()
    granted = (await ask(once, scope="viewer")).json()
    assert (granted["token_type"], granted["scope"]) == ("Bearer", "viewer")
    me = (await get(api, granted["access_token"])).json()
    assert (me["subject"], me["roles"], me["kind"]) == ("ledger-sync", ["viewer"], "machine")
    for assertion, reason in (
        (once, "used_before"),
        (sign(using=new_key("EdDSA")), "signature"),
        (sign(aud="https://elsewhere/oauth/token"), "audience"),
        (sign(exp=now(-100), iat=now(-200)), "expired"),
        (sign(exp=now(1000)), "lives_too_long"),
        (sign(jti=None), "claims"),
        (sign(sub="cli_" + "0" * 32), "claims"),
        (sign(iss="cli_" + "0" * 32, sub="cli_" + "0" * 32), "unknown_client"),
        (forge_none_for(client["client_id"], audience), "malformed"),
    ):
        refused = await ask(assertion)
        assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client"), reason
        assert reason in refused.json()["error_description"] or reason == "malformed"
    assert (await ask(sign(), scope="admin")).json()["error"] == "invalid_scope"
    assert (await ask(sign(), grant_type="password")).json()["error"] == "unsupported_grant_type"
    await post(api, robot, f"/v1/oauth-clients/{client['client_id']}/revoke")
    assert (await get(api, granted["access_token"])).status_code == 401
    assert (await ask(sign())).json()["error"] == "invalid_client"


def forge_none_for(client_id: str, audience: str) -> str:
    said = {"iss": client_id, "sub": client_id, "aud": audience, "iat": now(0), "exp": now(60), "jti": "x"}
    return unsigned({"alg": "none"}, said) + "."


async def test_an_administrator_confirms_with_a_passkey_in_this_very_sign_in(
    api: Harness, provider: IdentityProvider
) -> None:
    passkey = Authenticator(name="boss")
    plain = provider.token("boss", sid="morning", **roles("boss"))
    strong = provider.token("boss", sid="morning", amr=["pwd", "hwk"], **roles("boss"))
    issue = {"subject": "someone", "roles": ["viewer"]}
    assert (await post(api, plain, "/v1/api-keys", issue)).json()["code"] == "step_up_required"
    assert (await post(api, plain, "/v1/step-up/options")).json()["code"] == "unknown_passkey"
    assert (await post(api, plain, "/v1/admin-passkeys", passkey.entry())).json()[
        "code"
    ] == "enrolment_refused"
    assert (await post(api, strong, "/v1/admin-passkeys", passkey.entry())).status_code == 201
    other = Authenticator(name="thief")
    assert (await post(api, strong, "/v1/admin-passkeys", other.entry())).json()["code"] == "step_up_required"

    asked = (await post(api, plain, "/v1/step-up/options")).json()
    for bend, reason in (
        (Bend(origin="https://evil.example"), "wrong_origin"),
        (Bend(type="webauthn.create"), "wrong_ceremony"),
        (Bend(challenge=lambda _: b"x" * 32), "wrong_challenge"),
        (Bend(flags=0x01), "user_not_verified"),
        (Bend(signature=lambda _: b"\x30\x06\x02\x01\x01\x02\x01\x01"), "bad_assertion_signature"),
    ):
        refused = await answer(api, plain, asked, passkey, bend)
        assert refused.json()["code"] == "step_up_refused"
        assert reason in refused.json()["detail"]
    assert (await answer(api, plain, asked, other)).json()["code"] == "step_up_refused"
    evening = provider.token("boss", sid="evening", **roles("boss"))
    assert "unknown_challenge" in (await answer(api, evening, asked, passkey)).json()["detail"]
    assert (await answer(api, plain, asked, passkey)).status_code == 200
    assert "challenge_over" in (await answer(api, plain, asked, passkey)).json()["detail"]
    assert (await post(api, plain, "/v1/api-keys", issue)).status_code == 201
    assert (await post(api, evening, "/v1/api-keys", issue)).json()["code"] == "step_up_required"

    listed = (await get(api, plain, "/v1/admin-passkeys")).json()["data"]
    assert (await post(api, plain, f"/v1/admin-passkeys/{listed[0]['id']}/revoke")).status_code == 200
    assert (await post(api, plain, "/v1/api-keys", issue)).json()["code"] == "step_up_required"
    # Nor does a thief get to be the first by letting go of all others.
    assert (await post(api, strong, "/v1/admin-passkeys", other.entry())).json()[
        "code"
    ] == "enrolment_refused"


async def answer(
    api: Harness, token: str, asked: dict[str, Any], passkey: Authenticator, bend: Bend | None = None
) -> httpx.Response:
    """Touch the passkey, and hand back what it gives."""
    made = passkey.sign(decode_base64url(asked["challenge"]), bend or Bend())
    body = {
        "id": asked["id"],
        "credential_id": made.credential_id,
        "authenticator_data": encode_base64url(made.authenticator_data),
        "client_data_json": encode_base64url(made.client_data_json),
        "signature": encode_base64url(made.signature),
    }
    return await post(api, token, "/v1/step-up", body)
