"""The policy file is read strictly, configuration too, and keys are real points."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from signer.config import ConfigFault, PinDescriptor, load_config
from signer.points import P, is_public_key
from signer.policy.document import parse_policy
from signer.refusal import StartupFault
from tests.fakes.signer_people import APPROVERS, approver_key, key_entry, make_policy, policy_bytes

EXAMPLE = Path(__file__).parents[2] / "signer" / "signer.example.toml"


def allow(**changes: object) -> dict[str, Any]:
    rules: Any = make_policy()["allow"]
    return {**rules[1], **changes}


def test_a_policy_is_read_whole() -> None:
    policy = parse_policy(policy_bytes(make_policy()))
    assert list(policy.approvers) == list(APPROVERS)
    assert [rule.threshold for rule in policy.allow] == [2, 2]
    assert policy.networks == {"stellar:devnet": "Custody Devnet ; 2026"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "custody-policy-v2"}, "format"),
        ({"version": 0}, "version"),
        ({"version": "1"}, "version"),
        ({"version": True}, "version"),
        ({"extra": 1}, "exactly the fields"),
        ({"networks": {"stellar:a": "x", "stellar:b": "x"}}, "two names"),
        ({"networks": []}, "networks"),
        (
            {
                "approvers": [
                    {"id": "a", "keys": [{"type": "ed25519", "public_key": "00" * 32}], "groups": ["g"]}
                ]
            },
            "public keys",
        ),
        ({"approvers": [{"id": "a", "keys": [], "groups": ["g"]}]}, "must not be empty"),
        (
            {"approvers": [{"id": "a b", "keys": [key_entry(approver_key("a"))], "groups": ["g"]}]},
            "short name",
        ),
        (
            {"approvers": [{"id": n, "keys": [key_entry(approver_key("a"))], "groups": ["g"]} for n in "ab"]},
            "stands twice",
        ),
        (
            {"approvers": [{"id": "a", "keys": [key_entry(approver_key(n))], "groups": ["g"]} for n in "ab"]},
            "one id",
        ),
        ({"allow": [allow(threshold=4)]}, "fewer people"),
        ({"allow": [allow(threshold=0)]}, "threshold"),
        ({"allow": [allow(group="nobody")]}, "fewer people"),
        ({"allow": [allow(amount_max=5)]}, "decimal string"),
        ({"allow": [allow(amount_max="05")]}, "decimal string"),
        ({"allow": [allow(amount_max="-5")]}, "decimal string"),
        ({"allow": [allow(kind="raw_hash")]}, "kind"),
        ({"allow": [allow(destinations=["*", "0x1"])]}, "destinations"),
        ({"allow": [allow(destinations=[])]}, "must not be empty"),
        (
            {"allow": [allow(windows=[{"seconds": 1, "amount_max": "1"}])]},
            "windows names one chain and one asset",
        ),
        ({"allow": [allow(windows=[{"seconds": 0, "amount_max": "1"}], asset="native")]}, "seconds"),
        ({"allow": [allow(), allow()]}, "two rules"),
        ({"allow": [{"id": "x"}]}, "exactly the fields"),
        ({"allow": {}}, "list"),
    ],
)
def test_a_policy_that_is_not_exact_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(StartupFault, match=said):
        parse_policy(policy_bytes(make_policy(**changes)))


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"format":1,"format":1}', b'{"a":1.5}']
)
def test_other_bytes_are_no_policy(data: bytes) -> None:
    with pytest.raises(StartupFault):
        parse_policy(data)


@pytest.mark.parametrize(
    "encoding",
    [
        bytes(32),
        b"\x01" + bytes(31),
        (P - 1).to_bytes(32, "little"),
        P.to_bytes(32, "little"),
        (P + 1).to_bytes(32, "little"),
        (2).to_bytes(32, "little"),
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"),
        bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"),
        b"\x00" * 31,
    ],
)
def test_small_order_foreign_and_non_canonical_points_are_no_keys(encoding: bytes) -> None:
    assert not is_public_key(encoding)


def test_real_keys_are_keys() -> None:
    for number in range(50):
        assert is_public_key(approver_key(str(number)).public_key().public_bytes_raw())


def test_the_example_configuration_is_valid() -> None:
    config = load_config(EXAMPLE)
    assert config.peers == {1000: frozenset({"requester"}), 1001: frozenset({"operator"})}
    assert config.socket_mode == 0o600


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda text: text.replace('policy = "', 'polici = "'), "lacks policy"),
        (lambda text: text + "\nsurprise = 1\n", "unknown"),
        (lambda text: text.replace('"0600" ', '"0666" '), "socket_mode"),
        (lambda text: text.replace("/run/custody-signer/signer.sock", "signer.sock"), "absolute"),
        (lambda text: text.replace("pin_file", "pin"), "exactly one of"),
        (lambda text: text.replace("sessions = 4", "sessions = 4\npin_fd = 3"), "exactly one of"),
        (lambda text: text.replace("connections = 32", "connections = 0"), "connections"),
        (lambda text: text.replace('"operator"', '"root"'), "roles"),
        (lambda text: text.replace("uid = 1001", "uid = 1000"), "named once"),
        (lambda text: text.replace('module_sha256 = ""', 'module_sha256 = "ab"'), "64 hex"),
        (lambda text: text + "[[", "not TOML"),
    ],
)
def test_a_configuration_says_what_is_wrong(tmp_path: Path, spoil: Callable[[str], str], said: str) -> None:
    path = tmp_path / "signer.toml"
    path.write_text(spoil(EXAMPLE.read_text()))
    with pytest.raises(ConfigFault, match=said):
        load_config(path)


def test_the_pin_may_come_by_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "signer.toml"
    lines = EXAMPLE.read_text().splitlines()
    path.write_text("\n".join("pin_fd = 3" if line.startswith("pin_file") else line for line in lines))
    assert load_config(path).hsm.pin == PinDescriptor(number=3)
