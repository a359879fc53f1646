"""Keys that come into use in other ways than by birth in the token: wrapped, admitted, listed by pages, exported."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from signer.decide import Decider
from signer.protocol.key_backup import AdmitKey, ExportKeys
from signer.protocol.messages import PAGE_MAX, CreateKey, KeyView, ListKeys
from signer.refusal import KeyFault, Refusal
from tests.fakes.signer_desk import Desk, approved
from tests.fakes.signer_hsm import WRAPPING, Crash, FakeToken
from tests.fakes.signer_people import bind_evm, make_policy, make_transfer

ASKED = CreateKey(request_id="r", org="acme", vault="hot", curve="secp256k1", label="one", storage="wrapped")
WRITTEN = ("mac", "anchor", "anchor torn")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(directory=tmp_path, token=FakeToken(), policy=make_policy())


def code_of(attempt: object, *arguments: object) -> str:
    assert callable(attempt)
    with pytest.raises(Refusal) as caught:
        attempt(*arguments)
    return caught.value.code


def test_the_same_request_makes_one_wrapped_key(desk: Desk) -> None:
    made = desk.start().keyring.create_key(ASKED)
    assert (made.storage, made.origin) == ("wrapped", "born")
    assert desk.start().keyring.create_key(ASKED) == made
    assert desk.token.wrapped == 1


@pytest.mark.parametrize("change", [{"label": "x"}, {"vault": "x"}, {"org": "x"}, {"storage": "token"}])
def test_a_used_request_id_makes_no_other_key(desk: Desk, change: dict[str, str]) -> None:
    decider = desk.start()
    decider.keyring.create_key(ASKED)
    assert code_of(decider.keyring.create_key, replace(ASKED, **change)) == "key_exists_different"
    # Nor the other way round.
    token_key = replace(ASKED, request_id="t", storage="token")
    decider.keyring.create_key(token_key)
    assert (
        code_of(decider.keyring.create_key, replace(token_key, storage="wrapped")) == "key_exists_different"
    )


@pytest.mark.parametrize(
    ("change", "code"), [({"curve": "ed25519"}, "cannot_wrap"), ({"storage": "paper"}, "bad_request")]
)
def test_what_cannot_be_kept_so_is_refused(desk: Desk, change: dict[str, str], code: str) -> None:
    decider = desk.start()
    assert code_of(decider.keyring.create_key, replace(ASKED, **change)) == code
    assert decider.health().keys == 0


@pytest.mark.parametrize("step", range(1, 5))
def test_a_crash_while_a_wrapped_key_is_made_leaves_none_or_one(desk: Desk, step: int) -> None:
    decider = desk.start()
    desk.token.crash_at = step
    with pytest.raises(Crash):
        decider.keyring.create_key(ASKED)
    assert desk.token.calls == ["generate", *WRITTEN][:step]
    made = desk.start().keyring.create_key(ASKED)
    assert desk.start().keyring.create_key(ASKED) == made
    assert desk.start().health().keys == 1


def test_a_wrapped_key_signs_what_was_approved(desk: Desk) -> None:
    key = desk.start().keyring.create_key(ASKED)
    asked = approved(make_transfer(key, desk.token.now), bind_evm(0))
    signed = desk.start().sign(asked)
    assert desk.start().sign(asked) == signed


def test_pages_show_every_key_once_oldest_first(desk: Desk) -> None:
    decider = desk.start()
    count = PAGE_MAX + 2
    ids = [
        decider.keyring.create_key(
            replace(ASKED, request_id=f"r{number}", storage="wrapped" if number % 2 else "token")
        ).key_id
        for number in range(count)
    ]
    decider.keyring.create_key(replace(ASKED, request_id="foreign", org="other"))
    decider = desk.start()
    pages = [decider.keyring.list_keys(ListKeys(org="acme", start=start)) for start in (0, PAGE_MAX, count)]
    assert [len(page.keys) for page in pages] == [PAGE_MAX, 2, 0]
    assert [view.key_id for page in pages for view in page.keys] == ids
    assert {page.total for page in pages} == {count}
    assert decider.keyring.list_keys(ListKeys(org="nobody")).total == 0
    assert code_of(decider.keyring.list_keys, ListKeys(org="acme", start=-1)) == "bad_request"
    exported = [decider.keyring.export_keys(ExportKeys(org="acme", start=start)) for start in (0, PAGE_MAX)]
    assert [view.key_id for page in exported for view in page.keys] == ids[1::2]
    assert [page.passed for page in exported] == [PAGE_MAX, 2]


def admission(decider: Decider, key: KeyView) -> AdmitKey:
    """What a backup brings to another signer."""
    (copy,) = decider.keyring.export_keys(ExportKeys(org="acme", start=0)).keys
    return AdmitKey(
        request_id=f"admit-{copy.key_id}",
        key_id=copy.key_id,
        org="acme",
        vault=copy.vault,
        curve=key.curve,
        label=copy.label,
        public_key=copy.public_key,
        blob=copy.blob,
    )


@pytest.fixture
def brought(desk: Desk) -> AdmitKey:
    decider = desk.start()
    return admission(decider, decider.keyring.create_key(ASKED))


def elsewhere(tmp_path: Path, named: bytes) -> Decider:
    """Another signer, whose token holds the same wrapping key, and whose configuration names `named`."""
    (tmp_path / "second").mkdir()
    other = Desk(directory=tmp_path / "second", token=FakeToken(), policy=make_policy())
    other.start()
    assert other.record is not None
    return Decider(other.record, other.token, frozenset({named}))


def test_a_backup_comes_into_use_where_the_wrapping_key_is_named(tmp_path: Path, brought: AdmitKey) -> None:

    second = elsewhere(tmp_path, hashlib.sha256(WRAPPING).digest())
    made = second.keyring.admit_key(brought)
    assert (made.key_id, made.storage, made.origin) == (brought.key_id, "wrapped", "ceremony")
    assert second.keyring.admit_key(brought) == made
    changes = ({"label": "x"}, {"public_key": bytes(65)}, {"blob": b""}, {"request_id": "x"}, {"vault": "x"})
    for change in changes:
        assert code_of(second.keyring.admit_key, replace(brought, **change)) == "key_exists_different"
    assert code_of(second.keyring.admit_key, replace(brought, key_id="AB")) == "bad_request"
    fresh = replace(brought, request_id="f", key_id="f" * 32)
    assert code_of(second.keyring.admit_key, replace(fresh, curve="ed25519")) == "cannot_wrap"
    for change in ({"public_key": bytes(65)}, {"blob": bytes(72)}):
        with pytest.raises(KeyFault):
            second.keyring.admit_key(replace(fresh, **change))
    assert second.health().keys == 1


def test_a_backup_does_not_come_into_use_where_nothing_is_named(tmp_path: Path, brought: AdmitKey) -> None:
    second = elsewhere(tmp_path, bytes(32))
    assert code_of(second.keyring.admit_key, brought) == "no_wrapping_key"
    assert second.health().keys == 0


def test_a_key_in_the_token_is_admitted_as_what_it_is(desk: Desk) -> None:
    desk.token.seeds[bytes(16)] = bytes(31) + b"\x01"
    decider = desk.start()
    public_key = desk.token.inspect(bytes(16), "ed25519").public_key
    asked = AdmitKey(
        request_id="a", key_id="00" * 16, org="acme", vault="hot", curve="ed25519", label="l",
        public_key=public_key, blob=b"",
    )  # fmt: skip
    assert code_of(decider.keyring.admit_key, replace(asked, public_key=bytes(32))) == "key_mismatch"
    with pytest.raises(KeyFault):
        decider.keyring.admit_key(replace(asked, key_id="11" * 16, request_id="b"))
    made = decider.keyring.admit_key(asked)
    assert (made.storage, made.origin) == ("token", "born")
    assert desk.start().keyring.admit_key(asked) == made
    # A later request for a new key cannot be answered with it.
    created = CreateKey(request_id="a", org="acme", vault="hot", curve="ed25519", label="other")
    assert code_of(desk.start().keyring.create_key, created) == "key_exists_different"


@pytest.mark.parametrize("step", range(1, 4))
def test_a_crash_while_a_key_is_admitted_can_be_repeated(desk: Desk, step: int) -> None:
    desk.token.seeds[bytes(16)] = bytes(31) + b"\x01"
    asked = AdmitKey(
        request_id="a", key_id="00" * 16, org="acme", vault="hot", curve="ed25519", label="l",
        public_key=desk.token.inspect(bytes(16), "ed25519").public_key, blob=b"",
    )  # fmt: skip
    decider = desk.start()
    desk.token.crash_at = step
    with pytest.raises(Crash):
        decider.keyring.admit_key(asked)
    assert desk.token.calls == [*WRITTEN][:step]
    made = desk.start().keyring.admit_key(asked)
    assert desk.start().keyring.admit_key(asked) == made
