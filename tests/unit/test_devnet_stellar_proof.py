"""What the development network emits proves like a real ledger: hashes, chain, and events equal to entry deltas.

The proof is first run on real public-network ledgers, so that it is the proof that is known to be right.
"""

import gzip
import hashlib
import os
import random
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from stellar_sdk import Account as SdkAccount
from stellar_sdk import (
    AccountMerge,
    Asset,
    AuthorizationFlag,
    BumpSequence,
    ChangeTrust,
    Claimant,
    ClaimClaimableBalance,
    Clawback,
    ClawbackClaimableBalance,
    CreateAccount,
    CreateClaimableBalance,
    HashMemo,
    IdMemo,
    Keypair,
    ManageData,
    Memo,
    MuxedAccount,
    Network,
    NoneMemo,
    Operation,
    Payment,
    SetOptions,
    SetTrustLineFlags,
    TextMemo,
    TransactionBuilder,
    TrustLineFlags,
    xdr,
)

from devnet.stellar.entries import Account, ClaimableBalance, asset_from_xdr, raw_account, sac_contract_id
from devnet.stellar.events import sep11
from devnet.stellar.network import LocalNetwork

SEED = 20_250_923
PUBNET = Path(os.environ.get("CUSTODY_FIXTURES", Path(__file__).parents[3] / "shared" / "fixtures"))
Deltas = Counter[tuple[str, str]]


def prove(meta: xdr.LedgerCloseMeta, network_id: bytes) -> int:
    """Assert everything a client can check on one ledger; returns how many transactions were compared."""
    body = meta.v2 if meta.v2 is not None else meta.v1
    assert body is not None
    header = body.ledger_header.header
    assert hashlib.sha256(header.to_xdr_bytes()).digest() == body.ledger_header.hash.hash
    assert hashlib.sha256(body.tx_set.to_xdr_bytes()).digest() == header.scp_value.tx_set_hash.hash
    results = xdr.TransactionResultSet([t.result for t in body.tx_processing])
    assert hashlib.sha256(results.to_xdr_bytes()).digest() == header.tx_set_result_hash.hash
    for processed in body.tx_processing:
        moved, changed = event_deltas(processed, network_id), entry_deltas(processed)
        assert moved == changed, processed.result.transaction_hash.hash.hex()
    return len(body.tx_processing)


def entry_deltas(processed: xdr.TransactionResultMetaV1) -> Deltas:
    """Per holder and asset, what the ledger entries gained."""
    deltas: Deltas = Counter()
    before: dict[bytes, dict[tuple[str, str], int]] = {}
    for change in _all_changes(processed):
        if change.state is not None:
            before[_key_bytes(change.state)] = _amounts(change.state)
        elif change.removed is not None:
            for holding, amount in before.pop(change.removed.to_xdr_bytes(), {}).items():
                deltas[holding] -= amount
        elif (entry := change.created or change.updated) is not None:
            key = _key_bytes(entry)
            old = before.pop(key, {}) if change.updated is not None else {}
            for holding, amount in _amounts(entry).items():
                deltas[holding] += amount - old.get(holding, 0)
    return _nonzero(deltas)


def event_deltas(processed: xdr.TransactionResultMetaV1, network_id: bytes) -> Deltas:
    """Per holder and asset, what the events say. Contract holders and the issuer itself have no entry to compare."""
    deltas: Deltas = Counter()
    body = processed.tx_apply_processing.v4
    assert body is not None
    events = [e.event for e in body.events] + [e for op in body.operations for e in op.events]
    for event in events:
        parsed = _parse_event(event, network_id)
        if parsed is None:
            continue
        asset, amount, source, target = parsed
        issuer = asset.rpartition(":")[2]
        if source is not None and source != issuer:
            deltas[source, asset] -= amount
        if target is not None and target != issuer:
            deltas[target, asset] += amount
    return _nonzero(Counter({k: v for k, v in deltas.items() if not k[0].startswith("C")}))


def _parse_event(
    event: xdr.ContractEvent, network_id: bytes
) -> tuple[str, int, str | None, str | None] | None:
    body = event.body.v0
    if body is None or event.contract_id is None or not body.topics or body.topics[0].sym is None:
        return None
    name, topics = body.topics[0].sym.sc_symbol.decode(), body.topics[1:]
    holders = [_show(t.address) for t in topics if t.address is not None]
    amount = _amount(body.data)
    if name == "fee":
        return "native", amount, holders[0], None
    if name not in ("transfer", "mint", "burn", "clawback") or topics[-1].str is None:
        return None
    asset = topics[-1].str.sc_string.decode()
    if sac_contract_id(_asset_ref(asset), network_id) != event.contract_id.contract_id.hash:
        return None
    if name == "transfer":
        return asset, amount, holders[0], holders[1]
    return (asset, amount, None, holders[0]) if name == "mint" else (asset, amount, holders[0], None)


def _amount(data: xdr.SCVal) -> int:
    if data.map is not None:
        data = next(
            e.val for e in data.map.sc_map if e.key.sym is not None and e.key.sym.sc_symbol == b"amount"
        )
    return 0 if data.i128 is None else (data.i128.hi.int64 << 64) + data.i128.lo.uint64


def _asset_ref(text: str):
    asset = Asset.native() if text == "native" else Asset(*text.split(":"))
    return asset_from_xdr(asset.to_xdr_object())


def _show(address: xdr.SCAddress) -> str:
    if address.account_id is not None:
        return Keypair.from_raw_ed25519_public_key(raw_account(address.account_id)).public_key
    if address.claimable_balance_id is not None:
        return "B" + address.claimable_balance_id.to_xdr_bytes().hex()
    if address.liquidity_pool_id is not None:
        return "L" + address.liquidity_pool_id.to_xdr_bytes().hex()
    return "C" + address.to_xdr_bytes().hex()


def _amounts(entry: xdr.LedgerEntry) -> dict[tuple[str, str], int]:
    data = entry.data
    if data.account is not None:
        holder = Keypair.from_raw_ed25519_public_key(raw_account(data.account.account_id)).public_key
        return {(holder, "native"): data.account.balance.int64}
    if data.trust_line is not None and data.trust_line.asset.type != xdr.AssetType.ASSET_TYPE_POOL_SHARE:
        holder = Keypair.from_raw_ed25519_public_key(raw_account(data.trust_line.account_id)).public_key
        return {(holder, sep11(asset_from_xdr(data.trust_line.asset))): data.trust_line.balance.int64}
    if data.claimable_balance is not None:
        holder = "B" + data.claimable_balance.balance_id.to_xdr_bytes().hex()
        asset = sep11(asset_from_xdr(data.claimable_balance.asset))
        return {(holder, asset): data.claimable_balance.amount.int64}
    if data.liquidity_pool is not None and data.liquidity_pool.body.constant_product is not None:
        pool, holder = (
            data.liquidity_pool.body.constant_product,
            "L" + data.liquidity_pool.liquidity_pool_id.to_xdr_bytes().hex(),
        )
        return {
            (holder, sep11(asset_from_xdr(pool.params.asset_a))): pool.reserve_a.int64,
            (holder, sep11(asset_from_xdr(pool.params.asset_b))): pool.reserve_b.int64,
        }
    return {}


def _key_bytes(entry: xdr.LedgerEntry) -> bytes:
    data, kind = entry.data, xdr.LedgerEntryType
    if data.account is not None:
        key = xdr.LedgerKey(kind.ACCOUNT, account=xdr.LedgerKeyAccount(data.account.account_id))
    elif data.trust_line is not None:
        line = xdr.LedgerKeyTrustLine(data.trust_line.account_id, data.trust_line.asset)
        key = xdr.LedgerKey(kind.TRUSTLINE, trust_line=line)
    elif data.claimable_balance is not None:
        balance = xdr.LedgerKeyClaimableBalance(data.claimable_balance.balance_id)
        key = xdr.LedgerKey(kind.CLAIMABLE_BALANCE, claimable_balance=balance)
    elif data.liquidity_pool is not None:
        pool = xdr.LedgerKeyLiquidityPool(data.liquidity_pool.liquidity_pool_id)
        key = xdr.LedgerKey(kind.LIQUIDITY_POOL, liquidity_pool=pool)
    else:
        return b"no money"
    return key.to_xdr_bytes()


def _all_changes(processed: xdr.TransactionResultMetaV1) -> Iterator[xdr.LedgerEntryChange]:
    body = processed.tx_apply_processing.v4
    assert body is not None
    yield from processed.fee_processing.ledger_entry_changes
    yield from body.tx_changes_before.ledger_entry_changes
    for operation in body.operations:
        yield from operation.changes.ledger_entry_changes
    yield from body.tx_changes_after.ledger_entry_changes
    after = getattr(processed, "post_tx_apply_fee_processing", None)
    yield from [] if after is None else after.ledger_entry_changes


def _nonzero(deltas: Deltas) -> Deltas:
    return Counter({k: v for k, v in deltas.items() if v})


@pytest.mark.parametrize("ledger", [63092988, 63092990, 51000294])
def test_the_proof_holds_on_real_ledgers(ledger: int) -> None:
    path = PUBNET / "stellar" / "pubnet" / f"ledger-{ledger}.xdr.gz"
    if not path.exists():
        pytest.skip(f"real ledger {path.name} is not here (set CUSTODY_FIXTURES)")
    meta = xdr.LedgerCloseMeta.from_xdr_bytes(gzip.decompress(path.read_bytes()))
    assert prove(meta, Network(Network.PUBLIC_NETWORK_PASSPHRASE).network_id()) > 200


def created_balances(meta: xdr.LedgerCloseMeta) -> list[str]:
    """Ids of the claimable balances that a ledger made."""
    created = (change.created for processed in meta.v2.tx_processing for change in _all_changes(processed))
    balances = (entry.data.claimable_balance for entry in created if entry is not None)
    return [b.balance_id.to_xdr_bytes().hex() for b in balances if b is not None]


class Mix:
    """Random transactions over a few accounts and two issued assets, one of them under full control of its issuer."""

    def __init__(self, seed: int, network: LocalNetwork | None = None) -> None:
        self.dice = random.Random(seed)
        self.network = LocalNetwork(clock=lambda: 1_700_000_000) if network is None else network
        self.people = [self._key() for _ in range(6)]
        self.open_issuer, self.strict_issuer = self._key(), self._key()
        for keypair in [*self.people, self.open_issuer, self.strict_issuer]:
            self.network.fund(keypair.public_key)
        self.metas = [self.network.close()]
        self.assets = [
            Asset("USDC", self.open_issuer.public_key),
            Asset("STRICT", self.strict_issuer.public_key),
        ]
        flags = AuthorizationFlag.AUTHORIZATION_REQUIRED | AuthorizationFlag.AUTHORIZATION_REVOCABLE
        flags |= AuthorizationFlag.AUTHORIZATION_CLAWBACK_ENABLED
        self.send(self.strict_issuer, [SetOptions(set_flags=flags)])
        self.metas.append(self.network.close())
        for person in self.people:
            self.send(person, [ChangeTrust(asset) for asset in self.assets])
        self.metas.append(self.network.close())
        for issuer, asset in zip((self.open_issuer, self.strict_issuer), self.assets, strict=True):
            grants = [
                SetTrustLineFlags(p.public_key, asset, set_flags=TrustLineFlags.AUTHORIZED_FLAG)
                for p in self.people
                if issuer is self.strict_issuer
            ]
            mints = [Payment(p.public_key, asset, "1000") for p in self.people]
            self.send(issuer, [*grants, *mints])
        self.metas.append(self.network.close())
        self.balance_ids: list[str] = []

    def round(self) -> None:
        """Every account sends one random transaction; then a ledger closes."""
        sources = [*self.people, self.open_issuer, self.strict_issuer]
        self.dice.shuffle(sources)
        for source in sources:
            if self.network.balance(source.public_key) is not None:
                operations = [self._operation(source) for _ in range(self.dice.randint(1, 3))]
                self.send(source, operations, bump=self.dice.random() < 0.3)
        meta = self.network.close()
        self.metas.append(meta)
        self.balance_ids += created_balances(meta)

    def alone(
        self, source: Keypair, operation: Operation, *, memo: Memo | None = None
    ) -> xdr.LedgerCloseMeta:
        """A ledger with one transaction, without a memo unless given."""
        self.send(source, [operation], memo=NoneMemo() if memo is None else memo)
        return self.network.close()

    def send(
        self, source: Keypair, operations: list[Operation], *, bump: bool = False, memo: Memo | None = None
    ) -> None:
        key = xdr.LedgerKey(
            xdr.LedgerEntryType.ACCOUNT, account=xdr.LedgerKeyAccount(source.xdr_account_id())
        )
        entry = self.network.entry(key)
        assert entry is not None
        account = SdkAccount(source.public_key, entry.data.account.seq_num.sequence_number.int64)
        builder = TransactionBuilder(account, self.network.passphrase, base_fee=self.dice.choice([100, 250]))
        digest = self.dice.randbytes(32)
        memos = [NoneMemo(), TextMemo("gruß"), IdMemo(77), HashMemo(digest)]
        builder.add_memo(memo or self.dice.choice(memos)).add_time_bounds(0, 0)
        for operation in operations:
            builder.append_operation(operation)
        envelope = builder.build()
        envelope.sign(source)
        if bump:
            payer = self.dice.choice(self.people)
            envelope = TransactionBuilder.build_fee_bump_transaction(
                payer, 1000, envelope, self.network.passphrase
            )
            envelope.sign(payer)
        self.network.submit(envelope.to_xdr())

    def _operation(self, source: Keypair) -> Operation:
        other = self.dice.choice([*self.people, self.open_issuer, self.strict_issuer]).public_key
        asset = self.dice.choice([Asset.native(), *self.assets])
        amount = f"{self.dice.randint(1, 600)}.{self.dice.randint(0, 9_999_999):07d}"
        muxed = MuxedAccount(other, self.dice.randint(0, 2**64 - 1)).account_muxed
        me = Claimant(source.public_key)
        if source is self.strict_issuer and self.dice.random() < 0.6:
            return self._issuer_operation()
        choices = [
            lambda: Payment(other, asset, amount),
            lambda: Payment(muxed, asset, amount),
            lambda: Payment(self._key().public_key, Asset.native(), "1"),
            lambda: CreateAccount(self._key().public_key, amount),
            lambda: CreateClaimableBalance(
                asset, amount, [Claimant(other), me] if other != me.destination else [me]
            ),
            lambda: ClaimClaimableBalance(self.dice.choice(self.balance_ids or ["0" * 72])),
            lambda: ManageData(self.dice.choice(["a", "b"]), self.dice.choice([b"x", None])),
            lambda: BumpSequence(0),
            lambda: SetOptions(home_domain="example.org"),
            lambda: ChangeTrust(self.dice.choice(self.assets), self.dice.choice(["5000", "800"])),
            lambda: Clawback(self.assets[1], other, "3"),
            lambda: AccountMerge(other),
        ]
        weights = [8, 8, 1, 3, 6, 6, 2, 1, 1, 2, 1, 1 if source in self.people else 0]
        return self.dice.choices(choices, weights)[0]()

    def _issuer_operation(self) -> Operation:
        holder, asset = self.dice.choice(self.people).public_key, self.assets[1]
        flag = TrustLineFlags.AUTHORIZED_FLAG
        choices = [
            Clawback(asset, holder, "3"),
            SetTrustLineFlags(holder, asset, clear_flags=flag),
            SetTrustLineFlags(holder, asset, set_flags=flag),
            ClawbackClaimableBalance(self.dice.choice(self.balance_ids or ["0" * 72])),
        ]
        return self.dice.choices(choices, [3, 1, 2, 1])[0]

    def _key(self) -> Keypair:
        return Keypair.from_raw_ed25519_seed(self.dice.randbytes(32))


def test_events_equal_entry_deltas_over_a_random_mix_of_operations() -> None:
    mix = Mix(SEED)
    for _ in range(40):
        mix.round()
    compared = sum(prove(meta, mix.network.network_id) for meta in mix.metas)
    codes = Counter(t.result.result.result.code.name for m in mix.metas for t in m.v2.tx_processing)
    names = Counter(
        e.body.v0.topics[0].sym.sc_symbol.decode()
        for m in mix.metas
        for t in m.v2.tx_processing
        for op in t.tx_apply_processing.v4.operations
        for e in op.events
    )
    assert compared > 150, f"seed {SEED}"
    assert (
        min(
            codes[c] for c in ("txSUCCESS", "txFAILED", "txFEE_BUMP_INNER_SUCCESS", "txFEE_BUMP_INNER_FAILED")
        )
        > 0
    ), codes
    assert min(names[n] for n in ("transfer", "mint", "burn", "clawback", "set_authorized")) > 0, names


def test_no_coin_appears_or_vanishes() -> None:
    mix = Mix(SEED + 1)
    for _ in range(15):
        mix.round()
    header = mix.metas[-1].v2.ledger_header.header
    entries = mix.network.entries()
    held = sum(e.balance for e in entries if isinstance(e, Account))
    set_aside = sum(e.amount for e in entries if isinstance(e, ClaimableBalance) and e.asset.is_native)
    assert held + set_aside + header.fee_pool.int64 == header.total_coins.int64


def test_headers_chain_by_hash_and_sequence() -> None:
    mix = Mix(SEED + 2)
    mix.round()
    entries = [m.v2.ledger_header for m in mix.metas]
    for parent, child in pairwise(entries):
        assert child.header.previous_ledger_hash.hash == parent.hash.hash
        assert child.header.ledger_seq.uint32 == parent.header.ledger_seq.uint32 + 1
        assert (
            child.header.scp_value.close_time.time_point.uint64
            >= parent.header.scp_value.close_time.time_point.uint64
        )


def test_every_meta_survives_a_round_trip_through_xdr() -> None:
    mix = Mix(SEED + 3)
    for _ in range(5):
        mix.round()
    for meta in mix.metas:
        raw = meta.to_xdr_bytes()
        assert xdr.LedgerCloseMeta.from_xdr_bytes(raw).to_xdr_bytes() == raw
