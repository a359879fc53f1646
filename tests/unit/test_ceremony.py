"""Shares and transcript of a key ceremony, without a token."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from signer.ceremony.fault import CeremonyFault
from signer.ceremony.shares import (
    KeyName,
    check_set,
    combine,
    open_seal,
    read_share,
    seal,
    split,
    write_share,
)
from signer.ceremony.transcript import Transcript, read_transcript, witness

KEY = KeyName(kind="wrapping", key_id="00" * 16, label="custody-wrapping-key", check="ab" * 32)
CUSTODIANS = {name: X25519PrivateKey.generate() for name in ("ann", "bea", "cy")}
WITNESSES = {name: Ed25519PrivateKey.generate() for name in ("wim", "xenia")}


def now() -> str:
    return "2026-01-01T00:00:00+00:00"


@settings(max_examples=60, deadline=None)
@given(
    secret=st.binary(min_size=32, max_size=32),
    numbers=st.integers(2, 6).flatmap(lambda n: st.tuples(st.integers(2, n), st.just(n))),
)
def test_any_k_shares_make_the_secret_and_fewer_do_not(secret: bytes, numbers: tuple[int, int]) -> None:
    threshold, count = numbers
    shares = list(enumerate(split(secret, threshold, count), 1))
    for chosen in itertools.combinations(shares, threshold):
        assert combine(chosen) == secret
    assert combine(shares) == secret
    for chosen in itertools.combinations(shares, threshold - 1):
        assert combine(chosen) != secret


def test_fewer_shares_leave_every_secret_possible() -> None:
    """Given k - 1 shares, each value of the last one makes another secret: so none is ruled out, nor likelier.

    Combining is linear over bits, so that is to say: 256 single-bit changes of the last share change the secret independently.
    """
    first, second, third = enumerate(split(bytes(range(32)), 3, 3), 1)
    secret = int.from_bytes(combine([first, second, third]))
    effects = []
    for bit in range(256):
        changed = (int.from_bytes(third[1]) ^ (1 << bit)).to_bytes(32)
        effects.append(int.from_bytes(combine([first, second, (3, changed)])) ^ secret)
    assert rank(effects) == 256


def rank(rows: list[int]) -> int:
    """Rank of a matrix over GF(2), one row per integer."""
    found: dict[int, int] = {}
    for row in rows:
        rest = row
        while rest and rest.bit_length() in found:
            rest ^= found[rest.bit_length()]
        if rest:
            found[rest.bit_length()] = rest
    return len(found)


def test_two_splits_of_one_secret_share_nothing() -> None:
    one, two = split(bytes(32), 2, 3), split(bytes(32), 2, 3)
    assert not set(one) & set(two)
    assert combine([(1, one[0]), (2, two[1])]) != bytes(32)


@pytest.mark.parametrize(("threshold", "count"), [(1, 3), (0, 3), (4, 3), (2, 17)])
def test_only_sensible_quorums_are_split(threshold: int, count: int) -> None:
    with pytest.raises(CeremonyFault):
        split(bytes(32), threshold, count)


def sealed_file(folder: Path, index: int = 1, name: str = "ann") -> Path:
    path = folder / f"{index}.json"
    write_share(path, seal(KEY, index, 2, 3, name, CUSTODIANS[name].public_key(), bytes([index]) * 32))
    return path


def test_a_share_opens_for_its_custodian_only(tmp_path: Path) -> None:
    share = read_share(sealed_file(tmp_path))
    assert open_seal(share, CUSTODIANS["ann"]) == b"\x01" * 32
    with pytest.raises(CeremonyFault, match="not that of the custodian"):
        open_seal(share, CUSTODIANS["bea"])
    assert ("01" * 32) not in (tmp_path / "1.json").read_text()


@pytest.mark.parametrize(
    "harm",
    [
        lambda value: value.update(index=2),
        lambda value: value.update(threshold=3),
        lambda value: value.update(of=2),
        lambda value: value.update(custodian="bea"),
        lambda value: value["key"].update(check="cd" * 32),
        lambda value: value["key"].update(kind="ed25519"),
        lambda value: value.update(sealed="00" + value["sealed"][2:]),
        lambda value: value.update(sealed=""),
    ],
)
def test_a_changed_share_does_not_open(tmp_path: Path, harm: Callable[[dict[str, object]], None]) -> None:
    path = sealed_file(tmp_path)
    value = json.loads(path.read_text())
    harm(value)
    path.write_text(json.dumps(value))
    with pytest.raises(CeremonyFault, match="does not open"):
        open_seal(read_share(path), CUSTODIANS["ann"])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "custody-share-v2"}', "\xff"])
def test_what_is_no_share_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(CeremonyFault, match="not a share"):
        read_share(path)
    with pytest.raises(CeremonyFault, match="cannot be read"):
        read_share(tmp_path / "absent.json")


def test_shares_must_belong_together_and_be_enough(tmp_path: Path) -> None:
    one, two = (read_share(sealed_file(tmp_path, index, name)) for index, name in ((1, "ann"), (2, "bea")))
    assert check_set([one, two]) == one
    for wrong in ([], [one], [one, one]):
        with pytest.raises(CeremonyFault):
            check_set(wrong)
    other = KeyName(kind="wrapping", key_id=KEY.key_id, label=KEY.label, check="cd" * 32)
    foreign = seal(other, 3, 2, 3, "cy", CUSTODIANS["cy"].public_key(), bytes(32))
    with pytest.raises(CeremonyFault, match="different"):
        check_set([one, foreign])


def make_transcript(path: Path) -> bytes:
    transcript = Transcript(path, now)
    keys = {name: key.public_key().public_bytes_raw().hex() for name, key in WITNESSES.items()}
    transcript.write("begun", witnesses=[{"name": name, "public_key": key} for name, key in keys.items()])
    transcript.write("key_made", check="ab" * 32)
    return transcript.close()


def test_a_transcript_holds_with_every_witness(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    head = make_transcript(path)
    assert (read_transcript(path).head, read_transcript(path).signed) == (head, frozenset())
    for name, key in WITNESSES.items():
        assert witness(path, name, key, now) == head
    read = read_transcript(path)
    assert read.signed == WITNESSES.keys()
    assert [line.event for line in read.lines] == ["begun", "key_made", "closed", "witnessed", "witnessed"]


def test_a_witness_signs_once_and_with_the_key_that_was_named(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    make_transcript(path)
    witness(path, "wim", WITNESSES["wim"], now)
    for name, key in (("wim", WITNESSES["wim"]), ("xenia", WITNESSES["wim"]), ("zed", WITNESSES["xenia"])):
        with pytest.raises(CeremonyFault):
            witness(path, name, key, now)


def test_a_ceremony_writes_no_transcript_over_another(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    make_transcript(path)
    with pytest.raises(CeremonyFault, match="cannot be begun"):
        Transcript(path, now)


def test_every_change_of_a_transcript_shows(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    make_transcript(path)
    for name, key in WITNESSES.items():
        witness(path, name, key, now)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    changed = [b"".join(lines[:place] + lines[place + 1 :]) for place in range(len(lines) - 1)]
    changed += [
        b"".join([*lines[:1], lines[2], lines[1], *lines[3:]]),
        whole.replace(b"key_made", b"key_born"),
        whole[:-1],
        whole + lines[-1],
        b"".join(lines[:2]),
        b"",
    ]
    changed += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), 7)]
    for data in changed:
        path.write_bytes(data)
        with pytest.raises(CeremonyFault):
            read_transcript(path)
    # Without its last signature the transcript still holds, and says who is missing.
    path.write_bytes(b"".join(lines[:-1]))
    assert read_transcript(path).signed == {"wim"}


def test_a_transcript_rewritten_with_its_hashes_needs_new_signatures(tmp_path: Path) -> None:
    """Whoever can compute hashes can make another transcript, but not the witnesses' signatures under it."""
    path, other = tmp_path / "t.jsonl", tmp_path / "u.jsonl"
    make_transcript(path)
    witness(path, "wim", WITNESSES["wim"], now)
    forged = Transcript(other, now)
    keys = {name: key.public_key().public_bytes_raw().hex() for name, key in WITNESSES.items()}
    forged.write("begun", witnesses=[{"name": name, "public_key": key} for name, key in keys.items()])
    forged.write("key_made", check="cd" * 32)
    forged.write("closed")
    signature = read_transcript(path).lines[-1].fields
    forged.write("witnessed", **signature)
    with pytest.raises(CeremonyFault, match="not the signature"):
        read_transcript(other)
