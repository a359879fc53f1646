"""The signer's client against a socket that answers, refuses, goes silent, hangs up, lies or is not there."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from custody.kernel.assetid import ChainId
from custody.kernel.ids import TenantId, new_uuid
from custody.signing import intents
from custody.signing.client import SignerClient
from custody.signing.decisions import verify_decision
from custody.signing.errors import (
    InvalidDecision,
    InvalidIntent,
    SignerContradicted,
    SignerRefused,
    SignerUndecided,
    SignerUnreachable,
    SigningUnknown,
)
from custody.signing.intent_fields import EvmCaps, Source, StellarCaps
from custody.signing.model import EvmSlot, StellarSlot
from signer.protocol import messages
from tests.fakes.withdrawal_world import (
    ETH,
    EVM,
    OUTSIDE,
    STELLAR,
    USDC,
    VAULT_ACCOUNT,
    XLM,
    make_decision,
    make_policy,
)

SLOT = StellarSlot(sequence=1, max_time=100, max_ledger=10, fee=100)


def make_source(chain: ChainId = STELLAR, initiator: str = "maker") -> Source:
    return Source(
        tenant=TenantId(1),
        purpose="omnibus",
        key_id="0" * 32,
        chain=chain,
        account=VAULT_ACCOUNT[chain],
        request_id=new_uuid(),
        initiator=initiator,
        policy_version=1,
        not_before=1,
        expires_at=1000,
    )


def make_intent(initiator: str = "maker") -> bytes:
    return intents.build_payment_intent(
        make_source(initiator=initiator),
        StellarCaps(network_passphrase="net", max_fee=1000),
        asset=XLM,
        amount=5,
        destination=OUTSIDE[STELLAR],
        memo_type="text",
        memo='say "hi"',
    )


@asynccontextmanager
async def serving(
    path: Path, answer: Callable[[messages.Request], bytes | None]
) -> AsyncIterator[SignerClient]:
    """A server that frames what `answer` returns, or hangs up on None."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(4), "big")
        body = answer(messages.load_request(await reader.readexactly(length)))
        if body is not None:
            writer.write(len(body).to_bytes(4, "big") + body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    async with server:
        yield SignerClient(str(path), timeout_s=0.5)


def signed_for(intent: bytes) -> bytes:
    return messages.dump(
        messages.Signed(tx=b"tx", tx_hash="ab" * 32, intent_digest=intents.digest(intent).hex())
    )


async def test_signed_transaction_carries_the_chains_own_spelling_of_its_hash(tmp_path: Path):
    intent = make_intent()
    async with serving(tmp_path / "s", lambda _: signed_for(intent)) as client:
        assert (await client.sign(intent, [], SLOT)).tx_hash == "ab" * 32
        slot = EvmSlot(nonce=0, max_fee_per_gas=1, max_priority_fee_per_gas=0)
        assert (await client.sign(intent, [], slot)).tx_hash == "0x" + "ab" * 32


async def test_request_holds_the_intent_the_decisions_and_the_slot(tmp_path: Path):
    intent, seen = make_intent(), []
    decision = make_decision(intent, "alice")

    def answer(request: messages.Request) -> bytes:
        seen.append(request)
        return signed_for(intent)

    async with serving(tmp_path / "s", answer) as client:
        await client.sign(intent, [decision], SLOT)
    (request,) = seen
    assert isinstance(request, messages.Sign)
    assert request.intent == intent
    assert request.approvals[0].evidence.signature.hex() == decision.signature
    assert request.binding == messages.StellarBinding(
        sequence=1, max_time=100, min_ledger=0, max_ledger=10, fee=100
    )


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (messages.dump(messages.Refused(code="vetoed", text="no")), SignerRefused),
        (messages.dump(messages.Refused(code="busy", text="")), SignerUndecided),
        (messages.dump(messages.Refused(code="hsm_fault", text="")), SignerUndecided),
        (messages.dump(messages.Vetoed(intent_digest="00")), SignerContradicted),
        (signed_for(b"another"), SignerContradicted),
        (b"{}", SigningUnknown),
        (b"not json", SigningUnknown),
        (None, SigningUnknown),
    ],
)
async def test_every_way_to_end(tmp_path: Path, body: bytes | None, error: type[Exception]):
    async with serving(tmp_path / "s", lambda _: body) as client:
        with pytest.raises(error):
            await client.sign(make_intent(), [], SLOT)


async def test_refusal_names_the_signers_code(tmp_path: Path):
    refused = messages.dump(messages.Refused(code="no_rule", text=""))
    async with serving(tmp_path / "s", lambda _: refused) as client:
        with pytest.raises(SignerRefused) as caught:
            await client.health()
    assert caught.value.reason == "no_rule"


async def test_silence_is_unknown_and_absence_is_unreachable(tmp_path: Path):
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(silent, tmp_path / "s"):
        with pytest.raises(SigningUnknown):
            await SignerClient(str(tmp_path / "s"), timeout_s=0.1).health()
    with pytest.raises(SignerUnreachable):
        await SignerClient(str(tmp_path / "none"), timeout_s=0.1).health()


def test_intent_shows_every_field_and_its_digest_is_the_protocols():
    intent = make_intent()
    shown = intents.show(intent)
    assert shown["kind"] == "stellar_payment"
    assert shown["memo"] == 'say "hi"'
    assert shown["org"] == "tenant-1"
    assert shown["network_id"] == hashlib.sha256(b"net").hexdigest()
    assert intents.digest(intent) == hashlib.sha256(b"custody-intent-v1\0" + intent).digest()
    assert intents.price_caps(intent) == (1000, 0)


def test_facts_of_each_kind_are_in_the_policys_words():
    caps = EvmCaps(chain_id=31337, gas_limit=21_000, max_fee_per_gas=10, max_priority_fee_per_gas=1)
    facts = intents.facts_of(
        intents.build_payment_intent(make_source(EVM), caps, asset=ETH, amount=5, destination=OUTSIDE[EVM])
    )
    assert (facts.kind, facts.asset, facts.amount, facts.fee_max) == ("evm_transfer", "native", 5, 210_000)
    trust = intents.facts_of(
        intents.build_trustline_intent(
            make_source(), StellarCaps(network_passphrase="net", max_fee=500), asset=USDC
        )
    )
    assert (trust.destination, trust.amount) == (OUTSIDE[STELLAR], 2**63 - 1)
    assert (trust.kind, trust.asset, trust.fee_max) == ("stellar_change_trust", USDC.reference, 500)


def test_what_the_protocol_cannot_say_is_refused():
    with pytest.raises(InvalidIntent):
        make_intent(initiator="no spaces allowed")


@pytest.mark.parametrize("change", ["person", "key", "word", "signature", "case", "initiator"])
def test_decision_that_does_not_verify_is_refused(change: str):
    intent = make_intent("alice" if change == "initiator" else "maker")
    good, other = make_decision(intent, "alice"), make_decision(intent, "bob")
    values = {"approver": good.approver, "public_key": good.public_key, "signature": good.signature}
    changed = {
        "person": {"approver": "bob"},
        "key": {"public_key": other.public_key},
        "word": {},
        "signature": {"signature": other.signature},
        "case": {"signature": good.signature.upper()},
        "initiator": {},
    }[change]
    word = type(good.word).REJECT if change == "word" else good.word
    with pytest.raises(InvalidDecision):
        verify_decision(intent, make_policy(), type(good)(word=word, **(values | changed)))
    if change not in {"initiator"}:
        assert verify_decision(intent, make_policy(), good).id == "alice"
