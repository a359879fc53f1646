"""The signer as it runs: a real process, a real SoftHSM token, every kind of intent, judged by independent libraries."""

import base64
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest
from eth_account import Account
from eth_account.typed_transactions import TypedTransaction
from hexbytes import HexBytes
from stellar_sdk import ChangeTrust, HashMemo, Keypair, MuxedAccount, Payment, TextMemo, TransactionEnvelope

from signer.protocol import canonical
from signer.protocol.approver_keys import Ed25519Key
from signer.protocol.messages import (
    CountView,
    CreateKey,
    Explain,
    Explained,
    GetPolicy,
    Health,
    HealthView,
    KeyList,
    KeyView,
    ListKeys,
    PublicKey,
    Refused,
    Sign,
    Signed,
    Veto,
    Vetoed,
)
from signer.protocol.policy_messages import (
    PolicyView,
)
from signer.protocol.wire import receive_frame
from tests.fakes.signer_people import (
    CUSTOMER,
    ISSUER,
    PASSPHRASE,
    RECEIVER,
    TOKEN,
    approve,
    approver_key,
    bind_evm,
    bind_stellar,
    make_anchor,
    make_erc20,
    make_payment,
    make_policy,
    make_transfer,
    make_trust,
    public_hex,
)
from tests.integration.signer_harness import (
    MODULE,
    PIN,
    ROOT,
    SignerProcess,
)

pytestmark = [pytest.mark.stack, pytest.mark.skipif(not MODULE.exists(), reason="needs softhsm2")]


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignerProcess]:
    running = SignerProcess(tmp_path_factory.mktemp("signer"))
    running.prepare(make_policy())
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def stellar_key(signer: SignerProcess) -> KeyView:
    return create_key(signer, "ed25519")


@pytest.fixture(scope="module")
def evm_key(signer: SignerProcess) -> KeyView:
    return create_key(signer, "secp256k1")


def create_key(signer: SignerProcess, curve: str) -> KeyView:
    key = signer.ask(CreateKey(request_id=str(uuid4()), org="acme", vault="hot", curve=curve, label="one"))
    assert isinstance(key, KeyView), key
    return key


def now() -> int:
    return int(time.time())


def signed(response: object) -> Signed:
    assert isinstance(response, Signed), response
    return response


def refused(response: object) -> str:
    assert isinstance(response, Refused), response
    return response.code


def read_stellar(response: Signed, key: KeyView) -> TransactionEnvelope:
    """Decode with the SDK and check its signature under the key's address."""
    envelope = TransactionEnvelope.from_xdr(base64.b64encode(response.tx).decode(), PASSPHRASE)
    assert envelope.hash_hex() == response.tx_hash
    (decorated,) = envelope.signatures
    Keypair.from_public_key(key.address).verify(envelope.hash(), decorated.signature)
    return envelope


def test_a_native_payment_is_what_the_intent_says(signer: SignerProcess, stellar_key: KeyView) -> None:
    intent = make_payment(stellar_key, now(), memo_type="text", memo="invoice 7")
    binding = bind_stellar(intent, 101)
    response = signed(signer.sign(intent, binding, "alice", "bob"))
    transaction = read_stellar(response, stellar_key).transaction
    (operation,) = transaction.operations
    assert isinstance(operation, Payment)
    assert (operation.destination.account_id, operation.amount) == (CUSTOMER, "1.2345678")
    assert operation.asset.is_native()
    assert operation.source is None
    assert transaction.memo == TextMemo("invoice 7")
    assert (transaction.sequence, transaction.fee) == (101, 1000)
    assert transaction.source.account_id == stellar_key.address
    assert transaction.preconditions.time_bounds.max_time == intent.expires_at
    assert transaction.preconditions.ledger_bounds.max_ledger == 5_000
    assert response.intent_digest == canonical.digest(canonical.encode(intent)).hex()


def test_a_credit_payment_reaches_the_muxed_customer(signer: SignerProcess, stellar_key: KeyView) -> None:
    muxed = MuxedAccount(CUSTOMER, 77)
    intent = make_payment(
        stellar_key, now(), destination=muxed.account_muxed, asset=f"USDC:{ISSUER}", amount=2**63 - 1
    )
    binding = replace(bind_stellar(intent, 102), max_ledger=0)
    transaction = read_stellar(signed(signer.sign(intent, binding, "bob", "carol")), stellar_key).transaction
    operation = transaction.operations[0]
    assert isinstance(operation, Payment)
    assert operation.destination == muxed
    assert (operation.asset.code, operation.asset.issuer) == ("USDC", ISSUER)
    assert operation.amount == "922337203685.4775807"
    assert transaction.preconditions.ledger_bounds is None


def test_a_trustline_has_asset_and_limit(signer: SignerProcess, stellar_key: KeyView) -> None:
    intent = make_trust(stellar_key, now())
    response = signed(signer.sign(intent, bind_stellar(intent, 103), "alice", "carol"))
    operation = read_stellar(response, stellar_key).transaction.operations[0]
    assert isinstance(operation, ChangeTrust)
    assert (operation.asset.code, operation.asset.issuer, operation.limit) == ("LONGCODE1234", ISSUER, "5")


def test_an_anchor_carries_its_hash_and_pays_its_own_account(
    signer: SignerProcess, stellar_key: KeyView
) -> None:
    intent = make_anchor(stellar_key, now())
    response = signed(signer.sign(intent, bind_stellar(intent, 104), "alice", "carol"))
    transaction = read_stellar(response, stellar_key).transaction
    (operation,) = transaction.operations
    assert isinstance(operation, Payment)
    assert operation.destination == MuxedAccount(stellar_key.address)
    assert (operation.asset.is_native(), Decimal(operation.amount)) == (True, Decimal("0.0000001"))
    assert isinstance(transaction.memo, HashMemo)
    assert transaction.memo.memo_hash.hex() == intent.hash


def test_an_evm_transfer_recovers_to_the_key(signer: SignerProcess, evm_key: KeyView) -> None:
    response = signed(signer.sign(make_transfer(evm_key, now()), bind_evm(0), "alice", "bob"))
    assert Account.recover_transaction(response.tx) == evm_key.address
    fields = TypedTransaction.from_bytes(HexBytes(response.tx)).as_dict()
    assert HexBytes(fields["to"]) == HexBytes(RECEIVER)
    assert (fields["value"], fields["data"], fields["nonce"]) == (10**18, b"", 0)
    assert (fields["gas"], fields["chainId"]) == (21_000, 31337)
    assert (fields["maxFeePerGas"], fields["maxPriorityFeePerGas"]) == (20 * 10**9, 10**9)
    assert not fields["accessList"]
    assert fields["s"] <= 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
    assert response.tx[0] == 2


def test_an_erc20_transfer_calls_only_transfer(signer: SignerProcess, evm_key: KeyView) -> None:
    intent = make_erc20(evm_key, now())
    response = signed(signer.sign(intent, bind_evm(1), "alice", "bob"))
    assert Account.recover_transaction(response.tx) == evm_key.address
    fields = TypedTransaction.from_bytes(HexBytes(response.tx)).as_dict()
    assert (HexBytes(fields["to"]), fields["value"]) == (HexBytes(TOKEN), 0)
    assert fields["data"].hex() == "a9059cbb" + RECEIVER[2:].lower().rjust(64, "0") + f"{123_456:064x}"


def test_many_evm_signatures_are_low_s_and_recover(signer: SignerProcess, evm_key: KeyView) -> None:
    for nonce in range(100, 120):
        response = signed(signer.sign(make_transfer(evm_key, now()), bind_evm(nonce), "alice", "bob"))
        assert Account.recover_transaction(response.tx) == evm_key.address


def test_the_same_request_gets_the_same_bytes_also_after_kill_9(
    signer: SignerProcess, evm_key: KeyView
) -> None:
    intent = make_transfer(evm_key, now())
    first = signed(signer.sign(intent, bind_evm(200), "alice", "bob"))
    assert signed(signer.sign(intent, bind_evm(200), "alice", "bob")) == first
    signer.kill()
    signer.start()
    assert signed(signer.sign(intent, bind_evm(200))) == first
    assert refused(signer.sign(intent, bind_evm(201), "alice", "bob")) == "already_bound"
    assert refused(signer.sign(make_transfer(evm_key, now()), bind_evm(200), "alice", "bob")) == "slot_used"


def test_requests_that_race_for_one_nonce_get_one_transaction(
    signer: SignerProcess, evm_key: KeyView
) -> None:
    """Four connections, four different intents, one nonce; and the same intent four times is one transaction."""
    signer.hang_up()
    same = make_transfer(evm_key, now())
    answers: dict[str, list[object]] = {"race": [], "same": []}

    def ask() -> None:
        client = SignerProcess(signer.directory)
        client.connect()
        answers["race"].append(client.sign(make_transfer(evm_key, now()), bind_evm(250), "alice", "bob"))
        answers["same"].append(client.sign(same, bind_evm(251), "alice", "bob"))
        client.hang_up()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    signer.connect()
    assert sum(isinstance(answer, Signed) for answer in answers["race"]) == 1
    assert (
        sorted(answer.code for answer in answers["race"] if isinstance(answer, Refused)) == ["slot_used"] * 3
    )
    assert len(answers["same"]) == 4
    assert len(set(answers["same"])) == 1


def test_a_veto_is_final_across_a_restart(signer: SignerProcess, evm_key: KeyView) -> None:
    data = canonical.encode(make_transfer(evm_key, now()))
    veto = Veto(intent=data, approvals=approve(data, "carol", decision="reject"))
    assert isinstance(signer.ask(veto), Vetoed)
    assert isinstance(signer.ask(veto), Vetoed)
    signer.stop()
    signer.start()
    request = Sign(intent=data, approvals=approve(data, "alice", "bob"), binding=bind_evm(300))
    assert refused(signer.ask(request)) == "vetoed"


def test_a_key_is_made_once_per_request(signer: SignerProcess) -> None:
    request = CreateKey(request_id=str(uuid4()), org="other", vault="hot", curve="ed25519", label="a")
    key = signer.ask(request)
    assert isinstance(key, KeyView)
    assert signer.ask(request) == key
    assert refused(signer.ask(replace(request, curve="secp256k1"))) == "key_exists_different"
    assert signer.ask(PublicKey(key_id=key.key_id)) == key
    assert signer.ask(ListKeys(org="other")) == KeyList(keys=(key,), total=1)
    assert refused(signer.ask(PublicKey(key_id="0" * 32))) == "unknown_key"
    assert refused(signer.ask(replace(request, request_id="x", curve="p256"))) == "bad_request"
    assert refused(signer.ask(replace(request, request_id="x", label="a/b"))) == "bad_request"


def test_policy_health_and_explain_can_be_read(signer: SignerProcess, evm_key: KeyView) -> None:
    policy = signer.ask(GetPolicy())
    assert isinstance(policy, PolicyView)
    assert [rule.id for rule in policy.allow] == ["stellar", "evm", "keys-ed25519", "keys-secp256k1"]
    assert policy.approvers[0].keys == (Ed25519Key(public_key=public_hex(approver_key("alice"))),)
    assert isinstance(signer.ask(Health()), HealthView)
    data = canonical.encode(make_transfer(evm_key, now()))
    explained = signer.ask(Explain(intent=data, approvals=approve(data, "bob")))
    assert isinstance(explained, Explained)
    assert (explained.verdict, explained.rule) == ("wait", "evm")
    assert explained.groups == (CountView(group="treasury", threshold=2, counted=("bob",)),)


def test_bad_frames_end_the_connection_with_a_code(signer: SignerProcess) -> None:
    for body in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x02{}", b"\x00\x00\x00\x04junk"):
        connection = signer.connect()
        connection.sendall(body)
        assert b"malformed_message" in receive_frame(connection)
        assert connection.recv(1) == b""
    signer.connect()


def test_a_slow_request_is_cut_off(signer: SignerProcess) -> None:
    connection = signer.connect()
    connection.sendall(b"\x00\x00\x00\x40partial")
    assert connection.recv(1) == b""
    signer.connect()


def test_a_peer_that_hangs_up_and_calls_again_finds_its_place_free(signer: SignerProcess) -> None:
    signer.hang_up()
    for _ in range(50):
        calls = []
        for _ in range(4):
            calls.append(signer.connect())
            signer.connection = None
        signer.connection = calls[0]
        assert isinstance(signer.ask(Health()), HealthView)
        for call in calls:
            call.close()
    signer.connect()


def test_too_many_connections_are_told_so(signer: SignerProcess) -> None:
    signer.hang_up()
    held = []
    try:
        for _ in range(4):
            held.append(signer.connect())
            signer.ask(Health())
            signer.connection = None
        extra = signer.connect()
        assert b"busy" in receive_frame(extra)
    finally:
        for connection in held:
            connection.close()
    signer.connect()
    assert isinstance(signer.ask(Health()), HealthView)


def test_the_process_is_hardened(signer: SignerProcess) -> None:
    assert signer.process is not None
    proc = Path("/proc") / str(signer.process.pid)
    limits = (proc / "limits").read_text()
    assert [line.split()[4] for line in limits.splitlines() if line.startswith("Max core")] == ["0"]
    assert stat.S_IMODE((signer.directory / "s.sock").stat().st_mode) == 0o600
    assert stat.S_IMODE(signer.journal.stat().st_mode) == 0o600
    assert PIN not in (proc / "cmdline").read_text()
    assert PIN not in signer.log


def test_it_starts_and_signs_with_only_its_own_package(tmp_path: Path) -> None:
    island = tmp_path / "island"
    shutil.copytree(ROOT / "signer", island / "signer", ignore=shutil.ignore_patterns("__pycache__"))
    signer = SignerProcess(tmp_path, code_path=island)
    signer.prepare(make_policy())
    signer.start()
    try:
        key = create_key(signer, "ed25519")
        intent = make_payment(key, now())
        read_stellar(signed(signer.sign(intent, bind_stellar(intent, 1), "alice", "bob")), key)
    finally:
        assert signer.stop() == 0


def test_its_imports_reach_no_other_package() -> None:
    code = (
        "import sys, signer.main; names = {m.split('.')[0] for m in sys.modules};"
        "print(sorted(names & {'custody','api','cli','rails','ingestion','devnet','sqlalchemy','httpx','fastapi'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_peer_without_the_role_is_refused(tmp_path: Path) -> None:
    signer = SignerProcess(tmp_path, roles=["observer"])
    signer.prepare(make_policy())
    signer.start()
    try:
        request = CreateKey(request_id="r", org="o", vault="v", curve="ed25519", label="l")
        assert refused(signer.ask(request)) == "forbidden"
        assert isinstance(signer.ask(GetPolicy()), PolicyView)
    finally:
        signer.stop()
