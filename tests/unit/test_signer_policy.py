"""The policy file is read strictly, configuration too, and keys are real points."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from signer.config import ConfigFault, PinCredential, PinDescriptor, load_config
from signer.points import P, is_public_key
from signer.policy.document import parse_policy
from signer.refusal import StartupFault
from tests.fakes.signer_people import (
    APPROVERS,
    ISSUER,
    approver_key,
    key_entry,
    make_key_rule,
    make_policy,
    policy_bytes,
)

EXAMPLE = Path(__file__).parents[2] / "signer" / "signer.example.toml"


def allow(**changes: object) -> dict[str, Any]:
    rules: Any = make_policy()["allow"]
    return {**rules[1], **changes}


def automatic(**changes: object) -> dict[str, Any]:
    return make_key_rule("ed25519", **changes)


def deny(**changes: object) -> dict[str, Any]:
    names = ("org", "vault", "key", "chain", "kind", "asset")
    return {"id": "no", **dict.fromkeys(names, "*"), "destinations": ["*"], **changes}


def hours(**changes: object) -> dict[str, Any]:
    return {"days": ["mon"], "from": "08:00", "to": "18:00", **changes}


def listed(**changes: object) -> dict[str, Any]:
    return {"chain": "eip155:1", "address": "0x1", "label": "the bank", **changes}


def cosigned(**changes: object) -> dict[str, Any]:
    return {"account": ISSUER, "chain": "stellar:devnet", "key": "00" * 16, **changes}


def asks(threshold: int, group: str = "treasury") -> list[dict[str, object]]:
    return [{"group": group, "threshold": threshold}]


def test_two_groups_need_two_people_between_them() -> None:
    both = [*asks(1, "desk"), *asks(1, "board")]
    people = [
        {"id": name, "keys": [key_entry(approver_key(name))], "groups": groups}
        for name, groups in (("ada", ["desk", "board"]), ("bob", ["desk"]))
    ]
    governance = {"approvals": both, "cool_down_s": 0}
    assert parse_policy(policy_bytes(make_policy(approvers=people, governance=governance, allow=[])))
    with pytest.raises(StartupFault, match="fewer people"):
        parse_policy(policy_bytes(make_policy(approvers=people[:1], governance=governance, allow=[])))


def test_a_policy_is_read_whole() -> None:
    policy = parse_policy(policy_bytes(make_policy()))
    assert list(policy.approvers) == list(APPROVERS)
    assert [[one.threshold for one in rule.approvals] for rule in policy.allow] == [[2], [2], [], []]
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
        ({"networks": {"stellar:a": "x\ny"}}, "printable"),
        ({"networks": {"a b": "x"}}, "without a space"),
        ({"allow": [allow(asset="native, to anywhere")]}, "without a space"),
        ({"allow": [allow(destinations=["0x1\x1b[2K"])]}, "without a space"),
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
        ({"allow": [allow(approvals=asks(4))]}, "fewer people"),
        ({"allow": [allow(approvals=asks(0))]}, "threshold"),
        ({"allow": [allow(approvals=asks(33))]}, "more than 32"),
        ({"allow": [allow(approvals=asks(1, "nobody"))]}, "fewer people"),
        ({"allow": [allow(approvals=[*asks(1), *asks(1)])]}, "named twice"),
        ({"allow": [allow(approvals=[])]}, "names kind, chain and asset and has a window"),
        ({"allow": [automatic(windows=[])]}, "names kind, chain and asset and has a window"),
        ({"allow": [automatic(kind="*")]}, "names kind, chain and asset and has a window"),
        ({"allow": [automatic(chain="*", windows=[])]}, "names kind, chain and asset and has a window"),
        ({"allow": [automatic(asset="*")]}, "one chain and one asset"),
        ({"allow": [automatic(chain="*")]}, "one chain and one asset"),
        ({"allow": [automatic(cool_down_s=1)]}, "no quorum to cool down"),
        ({"allow": [automatic(amount_max="*")]}, "decimal string"),
        ({"allow": [automatic(windows=[{"seconds": 1, "amount_max": "1"}])]}, "exactly the fields"),
        ({"allow": [automatic(windows=[{"seconds": 1, "amount_max": "1", "count_max": 0}])]}, "count_max"),
        ({"allow": [allow(cool_down_s=-1)]}, "cool_down_s"),
        ({"allow": [allow(cool_down_s="0")]}, "cool_down_s"),
        ({"allow": [allow(key="")]}, "key"),
        ({"allow": [allow(chain="*", destinations=["0x1"])]}, "lists addresses names one chain"),
        ({"allow": [allow(destinations=["@nobody"])]}, "no list @nobody"),
        ({"deny": [deny(destinations=["@nobody"])]}, "no list @nobody"),
        ({"allow": [allow(hours=[hours(days=[])])]}, "must not be empty"),
        ({"allow": [allow(hours=[hours(days=["monday"])])]}, "must be among"),
        ({"allow": [allow(hours=[{**hours(), "from": "8:00"}])]}, "time of day"),
        ({"allow": [allow(hours=[{**hours(), "from": "24:00"}])]}, "from must be before"),
        ({"allow": [allow(hours=[{**hours(), "to": "08:00"}])]}, "from must be before"),
        ({"allow": [allow(hours=[{**hours(), "to": "25:00"}])]}, "time of day"),
        ({"address_book": []}, "address_book"),
        ({"address_book": {"a b": []}}, "short name"),
        ({"address_book": {"a": [listed(label="")]}}, "printable"),
        ({"address_book": {"a": [listed(label="caf\u00e9")]}}, "printable"),
        ({"address_book": {"a": [listed(), listed(label="again")]}}, "listed twice"),
        ({"cosigned": {}}, "cosigned must be a list"),
        ({"cosigned": [{"account": ISSUER, "chain": "stellar:devnet"}]}, "exactly the fields"),
        ({"cosigned": [cosigned(account="G" + "A" * 55)]}, "must be a G address"),
        ({"cosigned": [cosigned(chain="eip155:1")]}, "a chain is stellar:NAME"),
        ({"cosigned": [cosigned(key="K" * 32)]}, "32 hex"),
        ({"cosigned": [cosigned(), cosigned(key="11" * 16)]}, "named twice"),
        ({"governance": {"approvals": [], "cool_down_s": 0}}, "somebody has to approve"),
        (
            {"governance": {"approvals": asks(4), "cool_down_s": 0}},
            "governance: the group treasury has fewer",
        ),
        ({"governance": {"approvals": asks(2)}}, "exactly the fields"),
        ({"networks": {f"stellar:{n}": "x" * 200 + str(n) for n in range(400)}}, "longer than 65536"),
        ({"allow": [allow(amount_max=5)]}, "decimal string"),
        ({"allow": [allow(amount_max="05")]}, "decimal string"),
        ({"allow": [allow(amount_max="-5")]}, "decimal string"),
        ({"allow": [allow(kind="raw_hash")]}, "kind"),
        ({"allow": [allow(destinations=["*", "0x1"])]}, "destinations"),
        ({"allow": [allow(destinations=[])]}, "must not be empty"),
        (
            {"allow": [allow(windows=[{"seconds": 1, "amount_max": "1", "count_max": 1}])]},
            "windows names one chain and one asset",
        ),
        (
            {"allow": [allow(windows=[{"seconds": 0, "amount_max": "1", "count_max": 1}], asset="native")]},
            "seconds",
        ),
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


PIN_LINE = 'pin_file = "/etc/custody-signer/pin"'
PEER = f'[[tls.peers]]\npublic_key_sha256 = "{"ab" * 32}"\nroles = ["requester"] # tls\n'


def with_tls(text: str) -> str:
    """The example with its commented table uncommented, and one peer with a real hash."""
    before, mark, table = text.partition("# [tls]\n")
    lines = [line.removeprefix("# ") for line in (mark + table).splitlines()]
    return before + "\n".join(lines).partition("[[tls.peers]]")[0] + PEER


def test_the_example_of_tls_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "signer.toml"
    path.write_text(with_tls(EXAMPLE.read_text()))
    tls = load_config(path).tls
    assert tls is not None
    assert (tls.address, tls.port, tls.peers) == ("10.0.0.5", 7443, {b"\xab" * 32: frozenset({"requester"})})
    assert load_config(EXAMPLE).tls is None


def test_the_pin_may_be_a_credential(tmp_path: Path) -> None:
    path = tmp_path / "signer.toml"
    path.write_text(EXAMPLE.read_text().replace(PIN_LINE, 'pin_credential = "pin"'))
    assert load_config(path).hsm.pin == PinCredential(name="pin")


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
        (lambda text: text.replace("ceremony_keys = []", 'ceremony_keys = "all"'), "list of hex"),
        (lambda text: text.replace("ceremony_keys = []", 'ceremony_keys = ["xy"]'), "list of hex"),
        (lambda text: text.replace("ceremony_keys = []", 'ceremony_keys = ["abcd"]'), "64 or 130"),
        (lambda text: text.replace("ceremony_keys = []", f"ceremony_keys = {['ab' * 32] * 2}"), "each once"),
        (lambda text: text.replace(PIN_LINE, 'pin_credential = "../pin"'), "not a path"),
        (lambda text: with_tls(text).replace("port = 7443", "port = 0"), "port"),
        (lambda text: with_tls(text).replace('"10.0.0.5"', '"localhost"'), "IP address"),
        (lambda text: with_tls(text).replace("tls.key", 'tls.key.pem"\nfoo = "'), "tls has unknown foo"),
        (lambda text: with_tls(text).replace("ab" * 32, "ab" * 31), "64"),
        (lambda text: with_tls(text).replace("ab" * 32, "ab" * 65), "64"),
        (lambda text: with_tls(text).replace('["requester"] # tls', "[]"), "roles"),
        (lambda text: with_tls(text) + PEER, "named once"),
        (lambda text: with_tls(text).partition("[[tls.peers]]")[0], "tls lacks peers"),
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
