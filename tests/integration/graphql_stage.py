"""Mutations as tests send them."""

from __future__ import annotations

from typing import Any

from signer.protocol.approvals import approval_message
from tests.integration.api_harness import Harness, approver_key, public_key_of

ERRORS = "status errors { code field retryable }"


async def mutate(api: Harness, query: str, scope: str = "all", /, **fields: object) -> dict[str, Any]:
    """The payload of a document's one mutation."""
    body = {"query": query, "variables": {"input": fields}}
    answer = (await api.http.post("/graphql", json=body, headers=api.headers(scope))).json()
    assert "errors" not in answer, answer
    (payload,) = answer["data"].values()
    found: dict[str, Any] = payload
    return found


def decision(made: dict[str, Any], name: str, word: str, tag: bytes | None = None) -> dict[str, Any]:
    """One approver's word about a withdrawal, or, with the tag of batches, about a batch."""
    version = (made if tag else made["policyTrace"])["approverSetVersion"]
    message = approval_message(
        decision=word.lower(),
        digest=bytes.fromhex(made["digest"]),
        approver_set_version=version,
        **({} if tag is None else {"tag": tag}),
    )
    signature = approver_key(name).sign(message).hex()
    return {
        "id": made["id"], "approver": name, "publicKey": public_key_of(name), "decision": word, "signature": signature,
    }  # fmt: skip
