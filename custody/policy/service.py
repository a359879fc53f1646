"""Adopt what the signer enforces, and look it up again."""

from __future__ import annotations

from collections.abc import Collection

from custody.db.session import ReadSession, UnitOfWork
from custody.policy import store
from custody.policy.errors import PolicyRewound, PolicyUnknown, PolicyVersionUnknown
from custody.policy.model import ApprovalPolicy


async def adopt(uow: UnitOfWork, policy: ApprovalPolicy) -> bool:
    """Take over the policy that the signer shows. Returns whether it was new.

    Idempotent by version. Raises PolicyRewound when the signer shows an older version, or another policy under a known one.
    """
    await uow.lock("policy")
    current = await store.load_current(uow)
    if current == policy:
        return False
    if current is not None and policy.version <= current.version:
        raise PolicyRewound(known=current.version, shown=policy.version, hash=policy.policy_hash)
    await store.insert_policy(uow, policy)
    return True


async def current(session: ReadSession) -> ApprovalPolicy:
    """The policy that new intents are made under. Raises PolicyUnknown before the first contact with the signer."""
    found = await store.load_current(session)
    if found is None:
        raise PolicyUnknown
    return found


async def at_version(session: ReadSession, version: int) -> ApprovalPolicy:
    """The policy that an intent names. Raises PolicyVersionUnknown."""
    found = await store.load_version(session, version)
    if found is None:
        raise PolicyVersionUnknown(version=version)
    return found


async def at_versions(session: ReadSession, versions: Collection[int]) -> dict[int, ApprovalPolicy]:
    """The policies that some intents name: one question for a whole page. Raises PolicyVersionUnknown."""
    found = await store.load_versions(session, versions)
    for version in versions:
        if version not in found:
            raise PolicyVersionUnknown(version=version)
    return found
