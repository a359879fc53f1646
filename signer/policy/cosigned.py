"""Accounts that a key of this signer signs for together with others: their own key is elsewhere, so the policy names them."""

import re
from dataclasses import dataclass

from signer.policy.reading import list_of, record_of, word_of, wrong
from signer.protocol.fields import parse_account

_CHAIN = re.compile(r"stellar:[a-z0-9-]{1,32}")
_KEY_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosigned:
    """One account, and the key of ours that is one of its signers on the chain."""

    account: str
    """G address."""
    chain: str
    """"stellar:…"."""
    key: str
    """Key id, 32 hex."""


def parse_cosigned(value: object) -> frozenset[Cosigned]:
    """Return what the list names; raises StartupFault."""
    entries = [_parse_entry(one) for one in list_of(value, "cosigned")]
    if len({(one.account, one.chain) for one in entries}) != len(entries):
        raise wrong("cosigned: one account is named twice on its chain")
    return frozenset(entries)


def _parse_entry(value: object) -> Cosigned:
    record = record_of(value, {"account", "chain", "key"}, "cosigned")
    account, chain, key = (word_of(record[name], f"cosigned.{name}") for name in ("account", "chain", "key"))
    try:
        parse_account(account)
    except ValueError as error:
        raise wrong("cosigned.account must be a G address") from error
    if not (_CHAIN.fullmatch(chain) and _KEY_ID.fullmatch(key)):
        raise wrong("cosigned: a chain is stellar:NAME, a key its id of 32 hex characters")
    return Cosigned(account=account, chain=chain, key=key)
