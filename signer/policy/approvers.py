"""The people who may decide and their keys, as the policy lists them."""

from dataclasses import dataclass

from signer.policy.approver_keys import parse_key
from signer.policy.reading import list_of, name_of, record_of, texts_of, wrong
from signer.protocol.approver_keys import ApproverKey, Passkey


@dataclass(frozen=True, slots=True, kw_only=True)
class Approver:
    """One person who may decide, with all keys of that person."""

    id: str
    keys: tuple[ApproverKey, ...]
    groups: tuple[str, ...]

    def key(self, public_key: str) -> ApproverKey | None:
        """Return the person's key that is spelled so."""
        return next((key for key in self.keys if key.public_key == public_key), None)


def parse_approver(value: object) -> Approver:
    record = record_of(value, {"id", "keys", "groups"}, "an approver")
    keys = tuple(parse_key(key, "approver keys") for key in list_of(record["keys"], "approver keys"))
    if not keys:
        raise wrong("approver keys must not be empty")
    return Approver(
        id=name_of(record["id"], "approver id"),
        keys=keys,
        groups=texts_of(record["groups"], "approver groups", name_of),
    )


def check_approvers(approvers: list[Approver]) -> None:
    """Refuse a person or a key that stands twice. A key has one spelling, whatever kind of entry it stands in."""
    if len({approver.id for approver in approvers}) != len(approvers):
        raise wrong("two approvers have one id")
    keys = [key for approver in approvers for key in approver.keys]
    if len({key.public_key for key in keys}) != len(keys):
        raise wrong("one key stands twice")
    credentials = [key.credential_id for key in keys if isinstance(key, Passkey)]
    if len(set(credentials)) != len(credentials):
        raise wrong("two passkeys have one credential id")
