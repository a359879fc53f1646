"""An account that needs keys of two tokens: two signer processes, two policies, and a network that counts signatures."""

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from stellar_sdk import TransactionEnvelope

from cli.main import main
from custody.chains.stellar.envelopes import merge_envelopes
from devnet.stellar.network import LocalNetwork
from devnet.stellar.outsider import Outsider, OutsiderFailed
from devnet.stellar.server import serve_in_thread
from signer.protocol import canonical, governance
from signer.protocol.governance import PolicyChange
from signer.protocol.intent import StellarPayment, StellarSetOptions
from signer.protocol.messages import ChangePolicy, CreateKey, KeyView, Refused, Signed, StellarBinding
from signer.protocol.policy_messages import PolicyChanged
from tests.fakes.signer_people import (
    NETWORK_ID,
    PASSPHRASE,
    approve,
    key_rules,
    make_header,
    make_payment,
    make_policy,
    make_rule,
    policy_bytes,
)
from tests.integration.signer_harness import MODULE, SignerProcess

pytestmark = [pytest.mark.stack, pytest.mark.skipif(not MODULE.exists(), reason="needs softhsm2")]

PAYMENTS = make_rule("payments", chain="stellar:devnet", kind="stellar_payment", amount_max=str(10**12))


@dataclass
class Site:
    """Two signers that know nothing of each other, an account that the first has the key of, and the network."""

    first: SignerProcess
    second: SignerProcess
    account: KeyView
    cosigner: KeyView
    outside: Outsider
    target: str


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    signers = [SignerProcess(tmp_path_factory.mktemp(name)) for name in ("first", "second")]
    with (
        serve_in_thread(LocalNetwork(passphrase=PASSPHRASE)) as served,
        Outsider(served.url, drive=True) as outside,
    ):
        for signer in signers:
            signer.prepare(make_policy(allow=[PAYMENTS, *key_rules()]))
            signer.start()
        account, cosigner = map(make_key, signers)
        outside.fund(account.address)
        target = outside.new_account().public_key
        yield Site(*signers, account, cosigner, outside, target)
    assert [signer.stop() for signer in signers] == [0, 0]


def make_key(signer: SignerProcess) -> KeyView:
    asked = CreateKey(request_id=str(uuid4()), org="acme", vault="cold", curve="ed25519", label="one")
    made = signer.ask(asked)
    assert isinstance(made, KeyView)
    return made


def change_policy(signer: SignerProcess, version: int, **changes: object) -> None:
    """Put the next policy in force, by the quorum of the one before."""
    document, now = policy_bytes(make_policy(version=version, **changes)), int(time.time())
    intent = PolicyChange(
        request_id=str(uuid4()), initiator="maker", policy_version=version - 1, not_before=now - 5,
        expires_at=now + 600, version=version, policy_hash=hashlib.sha256(document).hexdigest(),
    )  # fmt: skip
    data = governance.encode(intent)
    changed = signer.ask(
        ChangePolicy(intent=data, document=document, approvals=approve(data, "alice", "bob"))
    )
    assert isinstance(changed, PolicyChanged), changed


def bind(site: Site, expires_at: int) -> StellarBinding:
    sequence = site.outside.sequence(site.account.address) + 1
    return StellarBinding(sequence=sequence, max_time=expires_at, min_ledger=0, max_ledger=0, fee=100)


def as_cosigner(site: Site, intent: StellarPayment, **changes: object) -> StellarPayment:
    """The same payment as the second signer's people approve it: another key, the same account."""
    return StellarPayment(**{**asdict(intent), "key_id": site.cosigner.key_id, **changes})


def submit(site: Site, tx: bytes) -> str:
    envelope = TransactionEnvelope.from_xdr(base64.b64encode(tx).decode(), PASSPHRASE)
    return site.outside.submit(envelope).hash


def test_only_both_signers_together_move_what_the_account_holds(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = int(time.time())
    payment = make_payment(site.account, now, destination=site.target, policy_version=2)
    early = site.second.sign(
        as_cosigner(site, payment, policy_version=1), bind(site, payment.expires_at), "alice", "bob"
    )
    assert isinstance(early, Refused)
    assert early.code == "source_mismatch"

    _share_account(site)

    binding = bind(site, payment.expires_at)
    mine = site.first.sign(payment, binding, "alice", "bob")
    theirs = site.second.sign(as_cosigner(site, payment), binding, "bob", "carol")
    assert isinstance(mine, Signed)
    assert isinstance(theirs, Signed)
    assert mine.tx_hash == theirs.tx_hash
    assert mine.intent_digest != theirs.intent_digest
    for alone in (mine, theirs):
        with pytest.raises(OutsiderFailed, match="refused: txBAD_AUTH"):
            submit(site, alone.tx)
    before = site.outside.sequence(site.account.address)
    both = merge_envelopes([mine.tx, theirs.tx], PASSPHRASE)
    assert submit(site, both) == mine.tx_hash
    assert site.outside.sequence(site.account.address) == before + 1

    other = as_cosigner(site, payment, amount=1, request_id=str(uuid4()))
    taken = site.second.sign(other, binding, "alice", "bob")
    assert isinstance(taken, Refused)
    assert taken.code == "slot_used"
    told = [json.loads(line) for line in site.second.log.splitlines() if '"slot_used"' in line]
    assert [line["digest"] for line in told] == [canonical.digest(canonical.encode(other)).hex()]
    for signer in (site.first, site.second):
        _audit(signer, tmp_path / f"{signer.directory.name}.jsonl", capsys)


def _share_account(site: Site) -> None:
    """The first signer's people let the second's key in; the second's people let their key sign for the account."""
    share = make_rule(
        "share", chain="stellar:devnet", kind="stellar_set_options", destinations=[site.cosigner.address]
    )
    change_policy(site.first, 2, allow=[PAYMENTS, share, *key_rules()])
    named = {"account": site.account.address, "chain": "stellar:devnet", "key": site.cosigner.key_id}
    change_policy(site.second, 2, allow=[PAYMENTS, *key_rules()], cosigned=[named])
    header = {**make_header(site.account, int(time.time())), "policy_version": 2}
    options = StellarSetOptions(
        **header, chain="stellar:devnet", network_id=NETWORK_ID, max_fee=1000, signer_key=site.cosigner.address,
        signer_weight="1", master_weight="1", low_threshold="2", med_threshold="2", high_threshold="2",
    )  # fmt: skip
    signed = site.first.sign(options, bind(site, options.expires_at), "alice", "bob")
    assert isinstance(signed, Signed), signed
    submit(site, signed.tx)


def _audit(signer: SignerProcess, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the running process: export, ask for the anchor, verify the one against the other."""
    capsys.readouterr()
    assert (
        main(["audit", "signer", "export", "--journal", str(signer.journal.parent), "--out", str(out)]) == 0
    )
    capsys.readouterr()
    assert main(["audit", "signer", "anchor", "--socket", str(signer.directory / "s.sock")]) == 0
    anchor = capsys.readouterr().out.strip()
    assert main(["audit", "signer", "verify", str(out), "--anchor", anchor, "--list"]) == 0
    assert f"anchor: {anchor}" in capsys.readouterr().out
