"""The people who may decide and their keys, as the policy lists them."""

import re
from dataclasses import dataclass

from signer.points import is_public_key
from signer.policy.reading import name_of, record_of, texts_of, wrong

_HEX32 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Approver:
    """One person who may decide, with all keys of that person."""

    id: str
    keys: tuple[str, ...]
    groups: tuple[str, ...]


def parse_approver(value: object) -> Approver:
    record = record_of(value, {"id", "keys", "groups"}, "an approver")
    return Approver(
        id=name_of(record["id"], "approver id"),
        keys=texts_of(record["keys"], "approver keys", _key),
        groups=texts_of(record["groups"], "approver groups", name_of),
    )


def check_approvers(approvers: list[Approver]) -> None:
    if len({approver.id for approver in approvers}) != len(approvers):
        raise wrong("two approvers have one id")
    keys = [key for approver in approvers for key in approver.keys]
    if len(set(keys)) != len(keys):
        raise wrong("two approvers share a key")


def _key(value: object, place: str) -> str:
    if not isinstance(value, str) or not _HEX32.fullmatch(value) or not is_public_key(bytes.fromhex(value)):
        raise wrong(f"{place} must be Ed25519 public keys in hex")
    return value
