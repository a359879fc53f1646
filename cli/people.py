"""`custody tenants trust-issuer`, `issuers`, `distrust-issuer`, `add-passkey`: who says who a tenant's people are. For operators.

Whoever names the address of an identity provider's keys decides who everybody is, so this is no route of the API.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any
from uuid import UUID

from cli.platform import run_on_platform
from custody import bootstrap, settings
from custody.db.session import UnitOfWork
from custody.identity import people, step_up
from custody.identity import service as identity
from custody.identity.model import AdminPasskey, Issuer
from custody.identity.roles import ROLES
from custody.kernel.errors import CustodyError
from custody.kernel.ids import TenantId, new_uuid


def add_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Mount them beside the other commands about tenants."""
    trust = _verb(verbs, "trust-issuer", "believe an identity provider about a tenant's people", _trust)
    trust.add_argument("--issuer", required=True, help="`iss` of its tokens, exactly")
    trust.add_argument("--audience", required=True, help="`aud` of tokens for this installation, exactly")
    trust.add_argument("--jwks-uri", required=True, help="where its public keys are")
    trust.add_argument("--subject-claim", default="sub", help="claim that names a person here")
    trust.add_argument(
        "--roles-claim", default="", help="claim with the person's roles, such as realm_access.roles"
    )
    trust.add_argument(
        "--map", action="append", default=[], metavar="WORD=ROLE", help=f"roles: {', '.join(ROLES)}"
    )
    trust.add_argument(
        "--mfa", action="append", default=[], metavar="CLAIM=VALUE", help="tells of a second factor"
    )
    _verb(verbs, "issuers", "list the identity providers that a tenant trusts", _list)
    distrust = _verb(verbs, "distrust-issuer", "believe an identity provider no more", _distrust)
    distrust.add_argument("--id", type=UUID, required=True, help="as `issuers` shows it")
    passkey = _verb(verbs, "add-passkey", "register an administrator's passkey", _add_passkey)
    passkey.add_argument("--subject", required=True, help="the person, as tokens name them")
    passkey.add_argument("--entry", type=Path, required=True, help="JSON as the page /approvers/new shows it")


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str, act: Any
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text)
    parser.add_argument("--tenant", type=int, required=True, help="the tenant's number")
    parser.set_defaults(run=lambda chosen: run_on_platform(_in_tenant(chosen, act), "tenants"))
    return parser


async def _in_tenant(chosen: argparse.Namespace, act: Any) -> int:
    """Act in one transaction of the tenant and print what came of it. 2 when it was refused."""
    configured = settings.load()
    app = bootstrap.build(configured)
    tenant = TenantId(chosen.tenant)
    chosen.plain_http = configured.environment == "development"
    try:
        async with app.db.unit_of_work(tenant) as uow:
            if tenant not in await identity.list_tenants(uow):
                print(f"there is no tenant {tenant}")
                return 2
            found = await act(uow, chosen)
    except (OSError, ValueError, KeyError, CustodyError) as error:
        print(f"nothing was changed: {error}")
        return 2
    finally:
        await app.aclose()
    print(json.dumps(found))
    return 0


async def _trust(uow: UnitOfWork, chosen: argparse.Namespace) -> dict[str, Any]:
    told = [each.partition("=")[::2] for each in chosen.mfa]
    if len({claim for claim, _ in told}) > 1:
        raise ValueError("--mfa names two claims")
    issuer = Issuer(
        tenant=uow.tenant,
        id=new_uuid(),
        issuer=chosen.issuer,
        audience=chosen.audience,
        jwks_uri=chosen.jwks_uri,
        subject_claim=chosen.subject_claim,
        roles_claim=chosen.roles_claim,
        roles=dict(each.partition("=")[::2] for each in chosen.map),
        mfa_claim=told[0][0] if told else "",
        mfa_values=tuple(value for _, value in told),
    )
    await people.trust(uow, _operator(), issuer, plain_http=chosen.plain_http)
    return {"issuer": str(issuer.id)}


async def _list(uow: UnitOfWork, _: argparse.Namespace) -> dict[str, Any]:
    return {
        "issuers": [
            {"id": str(each.id), "issuer": each.issuer, "audience": each.audience, "jwks_uri": each.jwks_uri}
            for each in await people.list_issuers(uow)
        ]
    }


async def _distrust(uow: UnitOfWork, chosen: argparse.Namespace) -> dict[str, Any]:
    await people.distrust(uow, _operator(), chosen.id)
    return {"issuer": str(chosen.id)}


async def _add_passkey(uow: UnitOfWork, chosen: argparse.Namespace) -> dict[str, Any]:
    entry = json.loads(chosen.entry.read_text("utf-8"))
    passkey = AdminPasskey(
        id=new_uuid(),
        subject=identity.check_subject(chosen.subject),
        algorithm=str(entry["algorithm"]),
        public_key=str(entry["public_key"]),
        credential_id=str(entry["credential_id"]),
        rp_id=str(entry["rp_id"]),
        origins=tuple(map(str, entry["origins"])),
        device_bound=entry["device_bound"] is True,
        counter=0,
    )
    await step_up.add(uow, _operator(), passkey)
    return {"passkey": str(passkey.id), "subject": passkey.subject}


def _operator() -> str:
    return f"operator:uid-{os.getuid()}"
