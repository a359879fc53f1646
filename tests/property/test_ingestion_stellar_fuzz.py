"""Ledgers that were damaged on the way: each gives what the SDK's full decode gives, or a named refusal; none is costly."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from stellar_sdk import (
    Asset,
    AuthorizationFlag,
    ChangeTrust,
    Claimant,
    Clawback,
    CreateClaimableBalance,
    IdMemo,
    ManageData,
    Payment,
    SetOptions,
    TextMemo,
    xdr,
)

from custody.kernel.errors import InvariantViolated
from ingestion.errors import BrokenHashChain, UnreadableLedger
from ingestion.stellar.normalize import named_holders, normalize
from ingestion.stellar.scan.ledger import ScannedLedger, scan_ledger
from tests.fakes.stellar_ledgers import OLD, real_ledger, sdk_summary
from tests.fakes.stellar_town import CHAIN, Town, before_cap_67
from tests.unit.test_ingestion_stellar_pubnet import scanned_summary

SEED = 20261127
ROUNDS = 400
INTERESTING = (0, 1, 2, 3, 4, 5, 7, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 0x100, 0x10000)


@pytest.fixture(scope="module")
def town() -> Town:
    return Town()


@pytest.fixture(scope="module")
def busy(town: Town) -> bytes:
    """A small ledger with something of everything that the local network does."""
    issuer, ada, bob = town.settle("issuer"), town.settle("ada"), town.settle("bob")
    usd = Asset("USDTOKEN", issuer.public_key)
    flags = AuthorizationFlag.AUTHORIZATION_REVOCABLE | AuthorizationFlag.AUTHORIZATION_CLAWBACK_ENABLED
    town.close(town.sign(issuer, [SetOptions(set_flags=flags, home_domain="example.org")]))
    town.close(town.sign(bob, [ChangeTrust(usd)]))
    town.close(town.sign(issuer, [Payment(bob.public_key, usd, "50")]))
    return town.close(
        town.sign(issuer, [Payment(bob.public_key, usd, "9"), Clawback(usd, bob.public_key, "1")]),
        town.sign(ada, [Payment(bob.public_key, Asset.native(), "1"), ManageData("k", b"v")], IdMemo(7)),
        town.sign(bob, [CreateClaimableBalance(usd, "2", [Claimant(ada.public_key)])], TextMemo("hello")),
    ).to_xdr_bytes()


def overwrite_word(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(0, len(data) - 4, 4)
    data[at : at + 4] = chance.choice(INTERESTING).to_bytes(4, "big")


def flip_bit(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def nudge_word(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(0, len(data) - 4, 4)
    value = int.from_bytes(data[at : at + 4], "big") + chance.choice((-1, 1))
    data[at : at + 4] = (value % 2**32).to_bytes(4, "big")


def drop_words(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(0, len(data) - 64, 4)
    del data[at : at + 4 * chance.randint(1, 12)]


def repeat_words(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(0, len(data) - 64, 4)
    data[at:at] = data[at : at + 4 * chance.randint(1, 12)]


def truncate(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def by_sdk(data: bytes) -> list[tuple[object, ...]] | None:
    """The oracle's answer; None when it refuses."""
    try:
        return sdk_summary(data)
    except (ValueError, EOFError, OverflowError, RecursionError):
        return None


def by_scanner(data: bytes) -> tuple[ScannedLedger, list[tuple[object, ...]]] | None:
    """Ours; None when it refuses by name."""
    try:
        ledger = scan_ledger(data)
    except (UnreadableLedger, BrokenHashChain):
        return None
    head = (ledger.height, ledger.hash, ledger.parent_hash, ledger.close_time)
    return ledger, [head, *(scanned_summary(ledger, each) for each in ledger.transactions)]


def refusal_of(town: Town, ledger: ScannedLedger, *, audit: bool) -> str:
    """The code of what stops the ledger from being booked, which is never an error without a name."""
    try:
        normalize(ledger, CHAIN, town.reader, named_holders(ledger), audit=audit)
    except InvariantViolated as refusal:
        return refusal.code
    return "ingestion_accepted"


@pytest.mark.parametrize("damage", [overwrite_word, flip_bit, nudge_word, drop_words, repeat_words, truncate])
def test_a_damaged_ledger_gives_the_sdks_answer_or_a_named_refusal(
    town: Town, busy: bytes, damage: Callable[[bytearray, random.Random], None]
) -> None:
    accepted = 0
    for number in range(ROUNDS):
        seed = f"{SEED}/{damage.__name__}/{number}"
        chance = random.Random(seed)
        data = bytearray(busy)
        damage(data, chance)
        found = by_scanner(bytes(data))
        if found is None:
            continue
        ledger, summary = found
        assert summary == by_sdk(bytes(data)), seed
        accepted += 1
        for audit in (False, True):
            assert refusal_of(town, ledger, audit=audit).startswith("ingestion_"), seed
    assert accepted > 0 or damage in (truncate, drop_words, repeat_words)


def test_a_damaged_old_ledger_gives_the_sdks_answer_or_a_named_refusal(fixtures: Path, town: Town) -> None:
    original = real_ledger(fixtures, OLD[1])
    for number in range(ROUNDS):
        seed = f"{SEED}/old/{number}"
        chance = random.Random(seed)
        data = bytearray(original)
        chance.choice((overwrite_word, flip_bit, nudge_word, drop_words))(data, chance)
        found = by_scanner(bytes(data))
        if found is not None:
            assert found[1] == by_sdk(bytes(data)), seed
            assert refusal_of(town, found[0], audit=True).startswith("ingestion_"), seed


@pytest.mark.parametrize("version", [2, 3])
def test_what_is_derived_from_damaged_meta_is_proved_or_refused(
    town: Town, busy: bytes, version: int
) -> None:
    original = before_cap_67(xdr.LedgerCloseMeta.from_xdr_bytes(busy), version).to_xdr_bytes()
    for number in range(ROUNDS):
        seed = f"{SEED}/derived/{version}/{number}"
        chance = random.Random(seed)
        data = bytearray(original)
        chance.choice((overwrite_word, flip_bit, nudge_word))(data, chance)
        found = by_scanner(bytes(data))
        if found is not None:
            assert refusal_of(town, found[0], audit=True).startswith("ingestion_"), seed


def test_no_damage_makes_a_ledger_costly(busy: bytes) -> None:
    """Memory stays in proportion to the bytes that are there, whatever they claim."""
    chance = random.Random(SEED)
    by_scanner(busy)
    for _ in range(100):
        data = bytearray(busy)
        overwrite_word(data, chance)
        tracemalloc.start()
        try:
            by_scanner(bytes(data))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 20 * len(busy) + 200_000
