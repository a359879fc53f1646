"""The development network answers with the protocol's result codes, at submission and in the ledger."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from stellar_sdk import (
    Account,
    AccountMerge,
    Asset,
    AuthorizationFlag,
    BeginSponsoringFutureReserves,
    BumpSequence,
    ChangeTrust,
    Claimant,
    ClaimClaimableBalance,
    ClaimPredicate,
    Clawback,
    CreateAccount,
    CreateClaimableBalance,
    Keypair,
    LedgerBounds,
    ManageData,
    ManageSellOffer,
    MuxedAccount,
    Operation,
    Payment,
    SetOptions,
    SetTrustLineFlags,
    Signer,
    SignerKey,
    TimeBounds,
    TransactionBuilder,
    TransactionEnvelope,
    TrustLineFlags,
    xdr,
)

from devnet.stellar.network import LocalNetwork
from devnet.stellar.outsider import result_codes

NOW = 1_700_000_000
NOBODY = Keypair.from_raw_ed25519_seed(b"n" * 32)
XLM = Asset.native()


@dataclass
class Bench:
    """A network with three funded accounts and an issuer that controls its asset fully."""

    network: LocalNetwork = field(default_factory=lambda: LocalNetwork(clock=lambda: NOW))
    alice: Keypair = field(default_factory=lambda: Keypair.from_raw_ed25519_seed(b"a" * 32))
    bob: Keypair = field(default_factory=lambda: Keypair.from_raw_ed25519_seed(b"b" * 32))
    issuer: Keypair = field(default_factory=lambda: Keypair.from_raw_ed25519_seed(b"i" * 32))

    def __post_init__(self) -> None:
        for keypair in (self.alice, self.bob, self.issuer):
            self.network.fund(keypair.public_key)
        self.network.close()
        self.usd = Asset("USDC", self.issuer.public_key)
        flags = AuthorizationFlag.AUTHORIZATION_REVOCABLE | AuthorizationFlag.AUTHORIZATION_CLAWBACK_ENABLED
        self.apply(self.issuer, SetOptions(set_flags=flags))

    def envelope(
        self,
        source: Keypair,
        *operations: Operation,
        signers: tuple[Keypair, ...] | None = None,
        shift: int = 0,
        base_fee: int = 100,
        edit: Callable[[TransactionBuilder], object] | None = None,
        passphrase: str | None = None,
    ) -> TransactionEnvelope:
        account = Account(source.public_key, self.sequence(source) + shift)
        builder = TransactionBuilder(account, passphrase or self.network.passphrase, base_fee=base_fee)
        for operation in operations:
            builder.append_operation(operation)
        if edit is None:
            builder.add_time_bounds(0, 0)
        else:
            edit(builder)
        envelope = builder.build()
        for keypair in (source,) if signers is None else signers:
            envelope.sign(keypair)
        return envelope

    def submit(self, envelope: TransactionEnvelope) -> tuple[str, str]:
        """Status and, for an ERROR, the codes."""
        answer = self.network.submit(envelope.to_xdr())
        error = answer.get("errorResultXdr")
        return answer["status"], "" if error is None else result_codes(error)

    def apply(
        self, source: Keypair, *operations: Operation, signers: tuple[Keypair, ...] | None = None
    ) -> str:
        """Codes of a transaction that is taken and put in a ledger."""
        envelope = self.envelope(source, *operations, signers=signers)
        assert self.submit(envelope) == ("PENDING", "")
        self.network.close()
        row = self.network.transaction(envelope.hash())
        return result_codes(row.result.to_xdr())

    def sequence(self, source: Keypair) -> int:
        key = xdr.LedgerKeyAccount(source.xdr_account_id())
        entry = self.network.entry(xdr.LedgerKey(xdr.LedgerEntryType.ACCOUNT, account=key))
        return 0 if entry is None else entry.data.account.seq_num.sequence_number.int64


@pytest.fixture
def bench() -> Bench:
    return Bench()


def pay(amount: str = "1", to: Keypair = NOBODY, asset: Asset = XLM) -> Payment:
    return Payment(to.public_key, asset, amount)


def preconditions(**wanted: object) -> Callable[[TransactionBuilder], object]:
    def edit(builder: TransactionBuilder) -> None:
        builder.time_bounds = wanted.get("times", TimeBounds(0, 0))
        builder.ledger_bounds = wanted.get("ledgers")
        builder.min_sequence_number = wanted.get("min_seq")
        builder.min_sequence_age = wanted.get("age")
        builder.min_sequence_ledger_gap = wanted.get("gap")

    return edit


@pytest.mark.parametrize(
    ("times", "ledgers", "codes"),
    [
        (TimeBounds(0, NOW), None, ""),
        (TimeBounds(0, NOW - 1), None, "txTOO_LATE"),
        (TimeBounds(NOW, 0), None, ""),
        (TimeBounds(NOW + 1, 0), None, "txTOO_EARLY"),
        (TimeBounds(0, 0), LedgerBounds(0, 6), ""),
        (TimeBounds(0, 0), LedgerBounds(0, 5), "txTOO_LATE"),
        (TimeBounds(0, 0), LedgerBounds(5, 0), ""),
        (TimeBounds(0, 0), LedgerBounds(6, 0), "txTOO_EARLY"),
    ],
)
def test_time_and_ledger_bounds(
    bench: Bench, times: TimeBounds, ledgers: LedgerBounds | None, codes: str
) -> None:
    assert bench.network.latest.sequence == 4
    envelope = bench.envelope(
        bench.alice, pay(to=bench.bob), edit=preconditions(times=times, ledgers=ledgers)
    )
    assert bench.submit(envelope)[1] == codes


@pytest.mark.parametrize(
    ("age", "gap", "codes"),
    [(0, 1, ""), (0, 2, "txBAD_MIN_SEQ_AGE_OR_GAP"), (1, 0, "txBAD_MIN_SEQ_AGE_OR_GAP")],
)
def test_minimum_sequence_age_and_gap(bench: Bench, age: int, gap: int, codes: str) -> None:
    bench.apply(bench.alice, BumpSequence(0))
    envelope = bench.envelope(bench.alice, BumpSequence(0), edit=preconditions(age=age, gap=gap))
    assert bench.submit(envelope)[1] == codes


def test_minimum_sequence_number_allows_a_gap(bench: Bench) -> None:
    now = bench.sequence(bench.alice)
    low = bench.envelope(bench.alice, BumpSequence(0), shift=5, edit=preconditions(min_seq=now + 1))
    assert bench.submit(low)[1] == "txBAD_SEQ"
    fits = bench.envelope(bench.alice, BumpSequence(0), shift=5, edit=preconditions(min_seq=now))
    assert bench.submit(fits) == ("PENDING", "")


@pytest.mark.parametrize(("shift", "codes"), [(-1, "txBAD_SEQ"), (0, ""), (1, "txBAD_SEQ")])
def test_sequence_must_be_the_next_one(bench: Bench, shift: int, codes: str) -> None:
    assert bench.submit(bench.envelope(bench.alice, pay(to=bench.bob), shift=shift))[1] == codes


def test_wrong_network_is_bad_auth(bench: Bench) -> None:
    assert bench.submit(bench.envelope(bench.alice, pay(), passphrase="another"))[1] == "txBAD_AUTH"


def test_unknown_source_is_no_account(bench: Bench) -> None:
    assert bench.submit(bench.envelope(NOBODY, pay()))[1] == "txNO_ACCOUNT"


def test_signature_that_nobody_needs_is_refused(bench: Bench) -> None:
    envelope = bench.envelope(bench.alice, pay(), signers=(bench.alice, bench.bob))
    assert bench.submit(envelope)[1] == "txBAD_AUTH_EXTRA"


def test_fee_below_100_stroops_per_operation_is_refused(bench: Bench) -> None:
    assert bench.submit(bench.envelope(bench.alice, pay(), pay(), base_fee=99))[1] == "txINSUFFICIENT_FEE"


def test_only_the_base_fee_is_charged_of_a_higher_bid(bench: Bench) -> None:
    before = bench.network.balance(bench.alice.public_key)
    envelope = bench.envelope(bench.alice, BumpSequence(0), BumpSequence(0), base_fee=5000)
    bench.submit(envelope)
    bench.network.close()
    assert bench.network.balance(bench.alice.public_key) == before - 200


def test_bid_must_be_covered_above_the_reserve(bench: Bench) -> None:
    bench.apply(bench.bob, CreateAccount(NOBODY.public_key, "1.0000100"))
    assert bench.submit(bench.envelope(NOBODY, BumpSequence(0), base_fee=101))[1] == "txINSUFFICIENT_BALANCE"
    assert bench.submit(bench.envelope(NOBODY, BumpSequence(0), base_fee=100)) == ("PENDING", "")


def test_failed_transaction_pays_its_fee_consumes_its_sequence_and_changes_nothing_else(bench: Bench) -> None:
    before, seq = bench.network.balance(bench.alice.public_key), bench.sequence(bench.alice)
    assert (
        bench.apply(bench.alice, pay(to=bench.bob), pay("99999", to=bench.bob))
        == "txFAILED PAYMENT_SUCCESS PAYMENT_UNDERFUNDED"
    )
    assert bench.network.balance(bench.alice.public_key) == before - 200
    assert bench.sequence(bench.alice) == seq + 1


@pytest.mark.parametrize(
    "operation",
    [
        BeginSponsoringFutureReserves(NOBODY.public_key),
        ManageSellOffer(XLM, Asset("USDC", NOBODY.public_key), "1", "1"),
        SetOptions(signer=Signer(SignerKey.pre_auth_tx(b"x" * 32), 1)),
    ],
)
def test_what_is_not_applied_here_is_refused_at_submission(bench: Bench, operation: Operation) -> None:
    assert bench.submit(bench.envelope(bench.alice, operation)) == ("ERROR", "txFAILED opNOT_SUPPORTED")


@pytest.mark.parametrize(
    ("operation", "codes"),
    [
        (pay("1"), "PAYMENT_NO_DESTINATION"),
        (pay("10000"), "PAYMENT_NO_DESTINATION"),
        (CreateAccount(NOBODY.public_key, "0.9999999"), "CREATE_ACCOUNT_LOW_RESERVE"),
        (CreateAccount(NOBODY.public_key, "9999.5"), "CREATE_ACCOUNT_UNDERFUNDED"),
        (AccountMerge(NOBODY.public_key), "ACCOUNT_MERGE_NO_ACCOUNT"),
        (ChangeTrust(Asset("USDC", NOBODY.public_key)), "CHANGE_TRUST_NO_ISSUER"),
        (ManageData("a", None), "MANAGE_DATA_NAME_NOT_FOUND"),
        (ClaimClaimableBalance("0" * 72), "CLAIM_CLAIMABLE_BALANCE_DOES_NOT_EXIST"),
    ],
)
def test_codes_of_failed_operations(bench: Bench, operation: Operation, codes: str) -> None:
    assert bench.apply(bench.alice, operation) == f"txFAILED {codes}"


def test_existing_account_cannot_be_created(bench: Bench) -> None:
    assert (
        bench.apply(bench.alice, CreateAccount(bench.bob.public_key, "1"))
        == "txFAILED CREATE_ACCOUNT_ALREADY_EXIST"
    )


@pytest.mark.parametrize(
    ("operation", "codes"),
    [
        (Payment(NOBODY.public_key, XLM, "0"), "PAYMENT_MALFORMED"),
        (BumpSequence(-1), "BUMP_SEQUENCE_BAD_SEQ"),
        (
            SetTrustLineFlags(NOBODY.public_key, Asset("USDC", NOBODY.public_key)),
            "SET_TRUST_LINE_FLAGS_MALFORMED",
        ),
    ],
)
def test_malformed_operations_never_reach_a_ledger(bench: Bench, operation: Operation, codes: str) -> None:
    envelope = bench.envelope(bench.alice, operation) if not isinstance(operation, BumpSequence) else None
    if envelope is None:
        envelope = bench.envelope(bench.alice, BumpSequence(0))
        body = envelope.to_xdr_object()
        body.v1.tx.operations[0].body.bump_sequence_op.bump_to.sequence_number.int64 = -1
        envelope = TransactionEnvelope.from_xdr_object(body, bench.network.passphrase)
        envelope.signatures = []
        envelope.sign(bench.alice)
    assert bench.submit(envelope) == ("ERROR", f"txFAILED {codes}")


def test_trustline_life(bench: Bench) -> None:
    usd, issuer, alice, bob = bench.usd, bench.issuer, bench.alice, bench.bob
    assert bench.apply(issuer, pay(to=alice, asset=usd)) == "txFAILED PAYMENT_NO_TRUST"
    assert bench.apply(alice, pay(to=bob, asset=usd)) == "txFAILED PAYMENT_NO_TRUST"
    assert bench.apply(alice, ChangeTrust(usd, "10")) == "txSUCCESS CHANGE_TRUST_SUCCESS"
    assert bench.apply(bob, ChangeTrust(usd)) == "txSUCCESS CHANGE_TRUST_SUCCESS"
    assert bench.apply(issuer, pay("11", to=alice, asset=usd)) == "txFAILED PAYMENT_LINE_FULL"
    assert bench.apply(issuer, pay("10", to=alice, asset=usd)) == "txSUCCESS PAYMENT_SUCCESS"
    assert bench.apply(alice, pay("11", to=bob, asset=usd)) == "txFAILED PAYMENT_UNDERFUNDED"
    assert bench.apply(alice, ChangeTrust(usd, "9")) == "txFAILED CHANGE_TRUST_INVALID_LIMIT"
    assert bench.apply(alice, ChangeTrust(usd, "0")) == "txFAILED CHANGE_TRUST_INVALID_LIMIT"
    assert bench.apply(alice, AccountMerge(bob.public_key)) == "txFAILED ACCOUNT_MERGE_HAS_SUB_ENTRIES"
    assert bench.apply(alice, pay("10", to=issuer, asset=usd)) == "txSUCCESS PAYMENT_SUCCESS"
    assert bench.apply(alice, ChangeTrust(usd, "0")) == "txSUCCESS CHANGE_TRUST_SUCCESS"
    assert bench.apply(alice, AccountMerge(bob.public_key)) == "txSUCCESS ACCOUNT_MERGE_SUCCESS"
    assert bench.network.balance(alice.public_key) is None


def test_issuer_control_over_trustlines(bench: Bench) -> None:
    usd, issuer, alice, bob = bench.usd, bench.issuer, bench.alice, bench.bob
    flag = TrustLineFlags.AUTHORIZED_FLAG
    bench.apply(alice, ChangeTrust(usd))
    bench.apply(bob, ChangeTrust(usd))
    bench.apply(issuer, pay("10", to=alice, asset=usd))
    assert (
        bench.apply(issuer, SetTrustLineFlags(NOBODY.public_key, usd, clear_flags=flag))
        == "txFAILED SET_TRUST_LINE_FLAGS_NO_TRUST_LINE"
    )
    assert (
        bench.apply(issuer, SetTrustLineFlags(alice.public_key, usd, clear_flags=flag))
        == "txSUCCESS SET_TRUST_LINE_FLAGS_SUCCESS"
    )
    assert bench.apply(alice, pay(to=bob, asset=usd)) == "txFAILED PAYMENT_SRC_NOT_AUTHORIZED"
    assert bench.apply(issuer, pay(to=alice, asset=usd)) == "txFAILED PAYMENT_NOT_AUTHORIZED"
    assert bench.apply(issuer, Clawback(usd, alice.public_key, "11")) == "txFAILED CLAWBACK_UNDERFUNDED"
    assert bench.apply(issuer, Clawback(usd, alice.public_key, "4")) == "txSUCCESS CLAWBACK_SUCCESS"
    assert bench.apply(issuer, Clawback(usd, NOBODY.public_key, "4")) == "txFAILED CLAWBACK_NO_TRUST"
    assert (
        bench.apply(bob, SetOptions(set_flags=AuthorizationFlag.AUTHORIZATION_CLAWBACK_ENABLED))
        == "txFAILED SET_OPTIONS_AUTH_REVOCABLE_REQUIRED"
    )


def test_credit_can_be_burned_at_an_issuer_that_is_gone(bench: Bench) -> None:
    usd, issuer, alice = bench.usd, bench.issuer, bench.alice
    bench.apply(alice, ChangeTrust(usd))
    bench.apply(issuer, pay("10", to=alice, asset=usd))
    assert bench.apply(issuer, AccountMerge(bench.bob.public_key)) == "txSUCCESS ACCOUNT_MERGE_SUCCESS"
    assert bench.apply(alice, pay("3", to=issuer, asset=usd)) == "txSUCCESS PAYMENT_SUCCESS"


def test_claimable_balance_life(bench: Bench) -> None:
    alice, bob = bench.alice, bench.bob
    early = Claimant(
        bob.public_key, ClaimPredicate.predicate_not(ClaimPredicate.predicate_before_relative_time(60))
    )
    envelope = bench.envelope(alice, CreateClaimableBalance(XLM, "5", [early, Claimant(alice.public_key)]))
    assert bench.submit(envelope) == ("PENDING", "")
    bench.network.close()
    result = bench.network.transaction(envelope.hash()).result.result.results[0].tr
    balance_id = result.create_claimable_balance_result.balance_id.to_xdr_bytes().hex()
    assert (
        bench.apply(bob, ClaimClaimableBalance(balance_id)) == "txFAILED CLAIM_CLAIMABLE_BALANCE_CANNOT_CLAIM"
    )
    assert bench.apply(alice, AccountMerge(bob.public_key)) == "txFAILED ACCOUNT_MERGE_IS_SPONSOR"
    assert (
        bench.apply(alice, ClaimClaimableBalance(balance_id)) == "txSUCCESS CLAIM_CLAIMABLE_BALANCE_SUCCESS"
    )
    assert bench.apply(alice, AccountMerge(bob.public_key)) == "txSUCCESS ACCOUNT_MERGE_SUCCESS"


def test_reserve_of_subentries_cannot_be_spent(bench: Bench) -> None:
    bench.apply(bench.bob, CreateAccount(NOBODY.public_key, "1.5000300"))
    assert bench.apply(NOBODY, ManageData("a", b"x")) == "txSUCCESS MANAGE_DATA_SUCCESS"
    assert bench.apply(NOBODY, ManageData("b", b"x")) == "txFAILED MANAGE_DATA_LOW_RESERVE"
    assert bench.apply(NOBODY, pay("0.0000001", to=bench.bob)) == "txFAILED PAYMENT_UNDERFUNDED"


def test_thresholds_and_signers(bench: Bench) -> None:
    alice, bob, issuer = bench.alice, bench.bob, bench.issuer
    setup = SetOptions(
        master_weight=1,
        low_threshold=1,
        med_threshold=2,
        high_threshold=3,
        signer=Signer.ed25519_public_key(bob.public_key, 1),
    )
    assert bench.apply(alice, setup) == "txSUCCESS SET_OPTIONS_SUCCESS"
    payment = pay(to=bob)
    assert bench.submit(bench.envelope(alice, payment))[1] == "txFAILED opBAD_AUTH"
    assert bench.submit(bench.envelope(alice, payment, signers=(issuer,)))[1] == "txBAD_AUTH"
    assert bench.apply(alice, BumpSequence(0)) == "txSUCCESS BUMP_SEQUENCE_SUCCESS"
    assert bench.apply(alice, payment, signers=(alice, bob)) == "txSUCCESS PAYMENT_SUCCESS"
    high = bench.envelope(alice, SetOptions(master_weight=9), signers=(alice, bob))
    assert bench.submit(high)[1] == "txFAILED opBAD_AUTH"


def test_hash_x_signer_counts(bench: Bench) -> None:
    secret = b"open sesame"
    bench.apply(
        bench.alice, SetOptions(signer=Signer(SignerKey.sha256_hash(hashlib.sha256(secret).digest()), 1))
    )
    envelope = bench.envelope(bench.alice, pay(to=bench.bob), signers=())
    envelope.sign_hashx(secret)
    assert bench.submit(envelope) == ("PENDING", "")


def test_operation_of_another_account_needs_its_signature(bench: Bench) -> None:
    foreign = Payment(bench.alice.public_key, XLM, "1", source=bench.bob.public_key)
    assert bench.submit(bench.envelope(bench.alice, foreign))[1] == "txFAILED opBAD_AUTH"
    assert bench.apply(bench.alice, foreign, signers=(bench.alice, bench.bob)) == "txSUCCESS PAYMENT_SUCCESS"


def test_muxed_source_and_destination(bench: Bench) -> None:
    before = bench.network.balance(bench.bob.public_key)
    muxed = MuxedAccount(bench.bob.public_key, 2**64 - 1).account_muxed
    assert bench.apply(bench.alice, Payment(muxed, XLM, "2")) == "txSUCCESS PAYMENT_SUCCESS"
    assert bench.network.balance(bench.bob.public_key) == before + 20_000_000
