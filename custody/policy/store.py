"""SQL of the adopted policies."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from sqlalchemy import insert, select

from custody.db.session import ReadSession, UnitOfWork
from custody.policy.model import (
    AddressList,
    AllowRule,
    ApprovalPolicy,
    Approver,
    ApproverKey,
    Demand,
    Governance,
    Hours,
    ListedAddress,
    PasskeyTerms,
    Scope,
    Window,
)
from custody.policy.tables import approval_policies


async def load_current(session: ReadSession) -> ApprovalPolicy | None:
    """The highest version."""
    rows = await session.conn.execute(
        select(approval_policies.c.body).order_by(approval_policies.c.version.desc()).limit(1)
    )
    body = rows.scalar_one_or_none()
    return None if body is None else read_body(body)


async def load_version(session: ReadSession, version: int) -> ApprovalPolicy | None:
    """One version."""
    rows = await session.conn.execute(
        select(approval_policies.c.body).where(approval_policies.c.version == version)
    )
    body = rows.scalar_one_or_none()
    return None if body is None else read_body(body)


async def load_versions(session: ReadSession, versions: Collection[int]) -> dict[int, ApprovalPolicy]:
    """Some versions, by version."""
    rows = await session.conn.execute(
        select(approval_policies.c.version, approval_policies.c.body).where(
            approval_policies.c.version.in_(list(versions))
        )
    )
    return {row.version: read_body(row.body) for row in rows}


async def insert_policy(uow: UnitOfWork, policy: ApprovalPolicy) -> None:
    """Keep a version for good."""
    await uow.conn.execute(
        insert(approval_policies).values(
            version=policy.version, policy_hash=policy.policy_hash, body=write_body(policy)
        )
    )


def write_body(policy: ApprovalPolicy) -> dict[str, Any]:
    """The row's JSON. Amounts as text: JSON numbers lose digits beyond 2^53 in many readers."""
    body = asdict(policy)
    for rule in body["allow"]:
        rule["amount_max"] = str(rule["amount_max"])
        rule["fee_max"] = str(rule["fee_max"])
        for window in rule["windows"]:
            window["amount_max"] = str(window["amount_max"])
    return body


def read_body(body: dict[str, Any]) -> ApprovalPolicy:
    """The policy in a row's JSON."""
    return ApprovalPolicy(
        version=body["version"],
        approver_set_version=body["approver_set_version"],
        policy_hash=body["policy_hash"],
        approvers=tuple(
            Approver(id=each["id"], keys=tuple(map(_key, each["keys"])), groups=tuple(each["groups"]))
            for each in body["approvers"]
        ),
        address_book=tuple(
            AddressList(name=each["name"], entries=tuple(ListedAddress(**entry) for entry in each["entries"]))
            for each in body["address_book"]
        ),
        governance=Governance(
            approvals=_demands(body["governance"]["approvals"]),
            cool_down_s=body["governance"]["cool_down_s"],
        ),
        deny=tuple(_scope(each) for each in body["deny"]),
        allow=tuple(
            AllowRule(
                scope=_scope(each["scope"]),
                amount_max=int(each["amount_max"]),
                fee_max=int(each["fee_max"]),
                windows=tuple(
                    Window(
                        seconds=window["seconds"],
                        amount_max=int(window["amount_max"]),
                        count_max=window["count_max"],
                    )
                    for window in each["windows"]
                ),
                hours=tuple(Hours(**{**span, "days": tuple(span["days"])}) for span in each["hours"]),
                approvals=_demands(each["approvals"]),
                cool_down_s=each["cool_down_s"],
            )
            for each in body["allow"]
        ),
    )


def _demands(body: list[dict[str, Any]]) -> tuple[Demand, ...]:
    return tuple(Demand(**each) for each in body)


def _key(body: str | dict[str, Any]) -> ApproverKey:
    if isinstance(body, str):
        # Policies that were kept before there were other kinds of key, and withdrawals that were made under them.
        return ApproverKey(algorithm="ed25519", public_key=body, passkey=None)
    terms = body["passkey"]
    return ApproverKey(
        algorithm=body["algorithm"],
        public_key=body["public_key"],
        passkey=None if terms is None else PasskeyTerms(**{**terms, "origins": tuple(terms["origins"])}),
    )


def _scope(body: dict[str, Any]) -> Scope:
    return Scope(**{**body, "destinations": tuple(body["destinations"])})
