"""Every kind of intent through the running signer and a real SoftHSM token, judged by independent libraries."""

import base64
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.typed_transactions import TypedTransaction
from hexbytes import HexBytes
from stellar_sdk import FeeBumpTransactionEnvelope, InvokeHostFunction, Keypair, TransactionEnvelope

from signer.protocol import canonical
from signer.protocol.messages import CreateKey, EvmBinding, FeeBinding, KeyView, NoBinding, Refused, Signed
from tests.fakes.signer_kinds import SAMPLES, bind_kind, make_kind
from tests.fakes.signer_people import PASSPHRASE, chain_of_kind, key_rules, make_policy, make_rule
from tests.integration.signer_harness import MODULE, SignerProcess

pytestmark = [pytest.mark.stack, pytest.mark.skipif(not MODULE.exists(), reason="needs softhsm2")]

LISTED = {
    "stellar_set_options": [str(SAMPLES["stellar_set_options"]["signer_key"])],
    "evm_erc20_approve": [str(SAMPLES["evm_erc20_approve"]["spender"])],
}
VAULTS = ("hot", "treasury", "channels")
PLAIN = (
    "stellar_payment",
    "stellar_channel_payment",
    "stellar_contract_payment",
    "stellar_create_account",
    "stellar_create_claimable_balance",
    "stellar_path_payment_strict_send",
    "stellar_path_payment_strict_receive",
    "stellar_change_trust",
    "stellar_anchor",
    "stellar_account_merge",
    "stellar_set_options",
    "stellar_claim_claimable_balance",
    "stellar_memo_required",
)


def named_rule(kind: str) -> dict[str, object]:
    return make_rule(
        kind,
        chain=chain_of_kind(kind),
        kind=kind,
        destinations=LISTED.get(kind, ["*"]),
        amount_max=str(2**256 - 1),
    )


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignerProcess]:
    running = SignerProcess(tmp_path_factory.mktemp("kinds"))
    running.prepare(make_policy(allow=[*map(named_rule, canonical.KINDS), *key_rules()]))
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def keys(signer: SignerProcess) -> dict[tuple[str, str], KeyView]:
    made = {}
    for curve in ("ed25519", "secp256k1"):
        for vault in VAULTS:
            request = CreateKey(request_id=str(uuid4()), org="acme", vault=vault, curve=curve, label="one")
            key = signer.ask(request)
            assert isinstance(key, KeyView), key
            made[curve, vault] = key
    return made


def signed(response: object) -> Signed:
    assert isinstance(response, Signed), response
    return response


def make(kind: str, keys: dict[tuple[str, str], KeyView], **changes: Any) -> Any:
    curve = "ed25519" if kind.startswith("stellar_") else "secp256k1"
    if "destination_vault" in SAMPLES[kind]:
        changes["destination"] = keys[curve, "treasury"].address
    if kind == "stellar_channel_payment":
        changes["channel"] = keys[curve, "channels"].address
    return make_kind(kind, keys[curve, "hot"], int(time.time()), **changes)


@pytest.mark.parametrize("kind", PLAIN)
def test_a_stellar_kind_is_signed_by_its_keys(
    signer: SignerProcess, keys: dict[tuple[str, str], KeyView], kind: str
) -> None:
    intent = make(kind, keys)
    binding = bind_kind(intent, 1 + PLAIN.index(kind))
    response = signed(signer.sign(intent, binding, "alice", "bob"))
    envelope = TransactionEnvelope.from_xdr(base64.b64encode(response.tx).decode(), PASSPHRASE)
    assert envelope.hash_hex() == response.tx_hash
    vaults = ("hot", "channels") if kind == "stellar_channel_payment" else ("hot",)
    for vault, decorated in zip(vaults, envelope.signatures, strict=True):
        Keypair.from_public_key(keys["ed25519", vault].address).verify(envelope.hash(), decorated.signature)
    (operation,) = envelope.transaction.operations
    called = isinstance(operation, InvokeHostFunction)
    assert called == (kind == "stellar_contract_payment") == (envelope.transaction.soroban_data is not None)
    bump = make("stellar_fee_bump", keys, inner=response.intent_digest)
    outer = signed(signer.sign(bump, FeeBinding(fee=900), "alice", "bob"))
    bumped = FeeBumpTransactionEnvelope.from_xdr(base64.b64encode(outer.tx).decode(), PASSPHRASE)
    assert bumped.hash_hex() == outer.tx_hash
    Keypair.from_public_key(keys["ed25519", "hot"].address).verify(
        bumped.hash(), bumped.signatures[0].signature
    )
    assert bumped.transaction.inner_transaction_envelope.hash() == envelope.hash()


@pytest.mark.parametrize(
    "kind", ["evm_transfer", "evm_erc20_transfer", "evm_sweep", "evm_erc20_sweep", "evm_erc20_approve"]
)
def test_an_evm_kind_is_signed_replaced_and_cancelled(
    signer: SignerProcess, keys: dict[tuple[str, str], KeyView], kind: str
) -> None:
    nonce, gwei = int(sorted(canonical.KINDS).index(kind)), 10**9
    intent = make(kind, keys)
    first = signed(
        signer.sign(
            intent, EvmBinding(nonce=nonce, max_fee_per_gas=gwei, max_priority_fee_per_gas=1), "alice", "bob"
        )
    )
    shown = {
        "replaces": first.intent_digest,
        "replaced_kind": kind,
        "asset": getattr(intent, "token", "native"),
        "destination": intent.spender if kind == "evm_erc20_approve" else intent.destination,
        "amount": intent.amount,
    }
    dearer = EvmBinding(nonce=nonce, max_fee_per_gas=2 * gwei, max_priority_fee_per_gas=2)
    second = signed(signer.sign(make("evm_replace", keys, **shown), dearer, "alice", "bob"))
    dearest = EvmBinding(nonce=nonce, max_fee_per_gas=3 * gwei, max_priority_fee_per_gas=3)
    cancel = make("evm_cancel", keys, cancels=first.intent_digest)
    third = signed(signer.sign(cancel, dearest, "alice", "bob"))
    read = [TypedTransaction.from_bytes(HexBytes(each.tx)).as_dict() for each in (first, second, third)]
    assert {Account.recover_transaction(each.tx) for each in (first, second, third)} == {intent.source}
    assert {fields["nonce"] for fields in read} == {nonce}
    assert [(fields["to"], fields["value"], fields["data"]) for fields in read[:2]] == 2 * [
        (read[0]["to"], read[0]["value"], read[0]["data"])
    ]
    assert (HexBytes(read[2]["to"]), read[2]["value"], read[2]["data"]) == (HexBytes(intent.source), 0, b"")
    another = make("evm_transfer", keys)
    late = signer.sign(another, replace(dearest, max_fee_per_gas=4 * gwei), "alice", "bob")
    assert isinstance(late, Refused)
    assert late.code == "slot_used"


def test_messages_are_signed_and_the_same_again_after_kill_9(
    signer: SignerProcess, keys: dict[tuple[str, str], KeyView]
) -> None:
    evm = make("evm_message", keys, text="nonce 7\\nline 2")
    answer = signed(signer.sign(evm, NoBinding(), "alice", "bob"))
    text = f"Proof of control of {evm.source}\nnonce 7\nline 2"
    assert Account.recover_message(encode_defunct(text=text), signature=answer.tx) == evm.source
    stellar = make("stellar_message", keys, text="nonce 8")
    signature = signed(signer.sign(stellar, NoBinding(), "alice", "bob")).tx
    Keypair.from_public_key(stellar.source).verify_message(
        f"Proof of control of {stellar.source}\nnonce 8", signature
    )
    signer.kill()
    signer.start()
    assert signed(signer.sign(evm, NoBinding())) == answer
    refused = signer.sign(replace(evm, text="nonce 9"), NoBinding(), "alice")
    assert isinstance(refused, Refused)
    assert refused.code == "quorum_missing"
