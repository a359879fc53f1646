"""Requests as such: bent in ten thousand ways, sent to every parser, and many at once."""

from __future__ import annotations

import json
import random
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from signer.protocol import canonical
from signer.protocol.messages import (
    CreateKey,
    KeyView,
    Refused,
    Sign,
    Signed,
    dump,
    load_request,
    load_response,
)
from signer.protocol.wire import FRAME_MAX, MalformedMessage, receive_frame, send_frame
from tests.fakes.signer_kinds import SAMPLES, bind_kind, curve_of_kind, make_kind
from tests.fakes.signer_people import approve, bind_evm, make_policy, make_transfer
from tests.integration.signer_harness import SignerProcess
from tests.redteam.conftest import ProcessAttack, signatures

QUORUM = ("alice", "bob")
LIMIT = 10 * 10**18


@pytest.fixture(scope="module")
def keys(signer: SignerProcess) -> dict[str, KeyView]:
    made = {}
    for curve in ("ed25519", "secp256k1"):
        made[curve] = signer.ask(
            CreateKey(request_id=str(uuid4()), org="acme", vault="hot", curve=curve, label="one")
        )
    return made  # type: ignore[return-value]  # asserted by every use


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> SignerProcess:
    """A signer whose rule allows ten coins an hour."""
    policy = make_policy()
    for rule in policy["allow"]:  # type: ignore[attr-defined]  # a document
        if rule["id"] == "evm":
            rule |= {
                "asset": "native",
                "windows": [{"seconds": 3600, "amount_max": str(LIMIT), "count_max": 1000}],
            }
    running = SignerProcess(tmp_path_factory.mktemp("limited"))
    running.prepare(policy)
    running.start()
    return running


def valid(keys: dict[str, KeyView], kind: str) -> Sign:
    """A request that would be signed as it stands."""
    intent = make_kind(kind, keys[curve_of_kind(kind)], int(time.time()))
    data = canonical.encode(intent)
    return Sign(intent=data, approvals=approve(data, *QUORUM), binding=bind_kind(intent, 1_000_000))


@pytest.fixture
def chance() -> random.Random:
    """Where a bend falls. Drawn without a search for the smallest example, ten thousand cost seconds; the seed repeats them."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


def bend(body: bytes, chance: random.Random) -> bytes:
    """Change some bytes, cut, double or swap parts."""
    bent = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        where = chance.randrange(len(bent))
        match chance.choice(("set", "cut", "insert", "double")):
            case "set":
                bent[where] = chance.randrange(256)
            case "cut":
                del bent[where : where + chance.randint(1, 40)]
            case "insert":
                bent[where:where] = chance.randbytes(chance.randint(1, 20))
            case _:
                bent[where:where] = bent[where : where + chance.randint(1, 40)]
        if not bent:
            return b"{}"
    return bytes(bent)


def test_ten_thousand_bent_requests_yield_no_signature(
    attack: ProcessAttack, keys: dict[str, KeyView], chance: random.Random
) -> None:
    """Only what leaves intent and approvals as they are may be signed, and that is not asked here."""
    asked = valid(keys, "evm_transfer")
    body, codes = dump(asked), set[str]()
    for _ in range(10_000):
        bent = bend(body, chance)
        try:
            request = load_request(bent)
        except MalformedMessage:
            request = None
        parts = (request.intent, request.approvals) if isinstance(request, Sign) else None
        if parts == (asked.intent, asked.approvals):
            continue
        connection = attack.signer.connection or attack.signer.connect()
        send_frame(connection, bent)
        answer = load_response(receive_frame(connection))
        codes.add(attack.meets(answer))
        if attack.met[-1] == "malformed_message":
            attack.signer.hang_up()
    attack.signer.connect()
    assert {"malformed_message", "malformed_intent", "bad_approval_signature"} <= codes


_LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20))
_NAMES = st.one_of(
    st.sampled_from(["type", "intent", "approvals", "binding", "key_id", "org", "nonce"]), st.text(max_size=5)
)
_DOCUMENTS = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(_NAMES, inner, max_size=5)),
    max_leaves=30,
).map(lambda value: json.dumps(value).encode())


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=st.one_of(st.binary(max_size=3000), _DOCUMENTS))
def test_what_is_no_message_is_refused_by_name(body: bytes) -> None:
    """Nothing else is raised, whatever the bytes are."""
    with suppress(MalformedMessage):
        load_request(body)


def test_what_is_no_intent_is_refused_by_name(chance: random.Random) -> None:
    """Bytes that are accepted are the only bytes of what they say."""
    for kind in sorted(SAMPLES):
        view = KeyView(
            key_id="00" * 16, org="acme", vault="hot", curve="ed25519", label="x", public_key="",
            address=_SOURCE[curve_of_kind(kind)], storage="token", origin="born", state="active",
        )  # fmt: skip
        whole = canonical.encode(make_kind(kind, view, 1_700_000_000))
        for _ in range(3000 // len(SAMPLES)):
            body = bend(whole, chance)
            with suppress(canonical.MalformedIntent):
                assert canonical.encode(canonical.decode(body)) == body


_SOURCE = {
    "ed25519": "GBRPYHIL2CI3FNQ4BXLFMNDLFJUNPU2HY3ZMFSHONUCEOASW7QC7OX2H",
    "secp256k1": "0x52908400098527886E0F7030069857D2E4169EE7",
}


@pytest.mark.parametrize("part", [b"[", b'{"a":', b'"\\u0000', b"1", b'{"a":1,', b"\xff", b" "])
def test_bytes_made_to_cost_time_or_memory(attack: ProcessAttack, part: bytes) -> None:
    attack.refuses_bytes("malformed_message", (part * FRAME_MAX)[:FRAME_MAX])


def test_a_message_that_is_longer_than_it_may_be(attack: ProcessAttack) -> None:
    connection = attack.signer.connect()
    connection.sendall((FRAME_MAX + 1).to_bytes(4, "big"))
    answer = load_response(receive_frame(connection))
    attack.signer.connect()
    assert attack.meets(answer) == "malformed_message"


def ask_at_once(signer: SignerProcess, requests: list[Sign]) -> list[Any]:
    """Each on a connection of its own, as nearly together as threads can."""
    signer.hang_up()
    answers: list[Any] = []
    together = threading.Barrier(4)

    def ask(mine: list[Sign]) -> None:
        client = SignerProcess(signer.directory)
        client.connect()
        together.wait()
        answers.extend(client.ask(request) for request in mine)
        client.hang_up()

    threads = [threading.Thread(target=ask, args=(requests[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    signer.connect()
    return answers


def test_p10_requests_that_race_a_limit(limited: SignerProcess, request: pytest.FixtureRequest) -> None:
    """Sixteen payments of one coin at once, all approved, under a limit of ten coins an hour."""
    key = limited.ask(
        CreateKey(request_id=str(uuid4()), org="acme", vault="hot", curve="secp256k1", label="one")
    )
    assert isinstance(key, KeyView)
    requests = []
    for nonce in range(16):
        data = canonical.encode(make_transfer(key, int(time.time())))
        requests.append(Sign(intent=data, approvals=approve(data, *QUORUM), binding=bind_evm(nonce)))
    answers = ask_at_once(limited, requests)
    assert sum(isinstance(answer, Signed) for answer in answers) == LIMIT // 10**18
    assert {answer.code for answer in answers if isinstance(answer, Refused)} == {"over_velocity"}
    assert signatures(limited) == LIMIT // 10**18
    request.node.user_properties.append(("refusal", "over_velocity"))
    limited.stop()


def test_t14_requests_that_race_for_one_nonce(attack: ProcessAttack, keys: dict[str, KeyView]) -> None:
    asked = []
    for _ in range(8):
        data = canonical.encode(make_transfer(keys["secp256k1"], int(time.time())))
        asked.append(Sign(intent=data, approvals=approve(data, *QUORUM), binding=bind_evm(3_000_000)))
    answers = ask_at_once(attack.signer, asked)
    (won,) = [answer for answer in answers if isinstance(answer, Signed)]
    attack.owes(won)
    assert {attack.meets(answer) for answer in answers if answer is not won} == {"slot_used"}


def test_a2_one_intent_asked_for_many_times_at_once_is_one_transaction(
    attack: ProcessAttack, keys: dict[str, KeyView]
) -> None:
    asked = replace(valid(keys, "evm_transfer"), binding=bind_evm(3_000_001))
    answers = ask_at_once(attack.signer, [asked] * 8)
    assert len({attack_answer.tx for attack_answer in answers}) == 1
    attack.owed += 1
    attack.refuses("already_bound", replace(asked, binding=bind_evm(3_000_002)))
