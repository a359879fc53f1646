"""Somebody outside the platform, with software keys: funds accounts, issues assets and pays, over Stellar RPC.

Used by demos and tests to send deposits. Every call returns after its transaction is in a ledger; amounts are
integers of atomic units (seven decimals). Not for real money: keys live in memory.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx
from stellar_sdk import (
    Account,
    Asset,
    AuthorizationFlag,
    ChangeTrust,
    CreateAccount,
    FeeBumpTransactionEnvelope,
    Keypair,
    Memo,
    NoneMemo,
    Operation,
    Payment,
    SetOptions,
    TransactionBuilder,
    TransactionEnvelope,
    xdr,
)

UNITS = 10**7
"""Atomic units per XLM or per whole unit of a credit asset."""
BASE_FEE_STROOPS = 100
POLL_S = 0.1
BUILD_TIMEOUT_S = 300
"""Validity window of what is built here."""


class OutsiderFailed(RuntimeError):
    """A transaction was refused or failed, or did not reach a ledger in time. The text holds the result codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A transaction that is in a ledger and succeeded."""

    hash: str
    ledger: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedAsset:
    """A credit asset and the key that issues it."""

    asset: Asset
    issuer: Keypair


class Outsider:
    """A client of one Stellar RPC server.

    `drive` closes a ledger after each submission, for a network that closes by call only.
    """

    def __init__(self, rpc_url: str, *, timeout_s: float = 60.0, drive: bool = False) -> None:
        self._url = rpc_url.rstrip("/")
        self._http = httpx.Client(timeout=timeout_s)
        self._timeout_s = timeout_s
        self._drive = drive
        self.passphrase: str = self._call("getNetwork")["passphrase"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def new_account(self) -> Keypair:
        """A fresh account with friendbot's 10,000 XLM."""
        keypair = Keypair.random()
        self.fund(keypair.public_key)
        return keypair

    def fund(self, address: str) -> None:
        """Have friendbot create a G account. Raises OutsiderFailed when it exists already."""
        response = self._http.get(f"{self._url}/friendbot", params={"addr": address})
        if response.status_code != httpx.codes.OK:
            raise OutsiderFailed(f"friendbot refused {address}: {response.text}")

    def create_account(
        self, source: Keypair, destination: str, amount_stroops: int, *, memo: Memo | None = None
    ) -> Sent:
        """Create a G account with XLM from source; the memo travels like one of a payment."""
        return self.send(source, [CreateAccount(destination, units_text(amount_stroops))], memo=memo)

    def issue_asset(self, code: str, *, flags: AuthorizationFlag | None = None) -> IssuedAsset:
        """A new issuer account, optionally with authorisation flags, and its asset."""
        issuer = self.new_account()
        if flags is not None:
            self.send(issuer, [SetOptions(set_flags=flags)])
        return IssuedAsset(asset=Asset(code, issuer.public_key), issuer=issuer)

    def trust(self, holder: Keypair, asset: Asset, *, limit_atomic: int | None = None) -> Sent:
        """Open a trustline, or change its limit; without a limit it is the greatest possible."""
        limit = None if limit_atomic is None else units_text(limit_atomic)
        return self.send(holder, [ChangeTrust(asset, limit)])

    def pay(
        self,
        source: Keypair,
        destination: str,
        amount_atomic: int,
        *,
        asset: Asset | None = None,
        memo: Memo | None = None,
    ) -> Sent:
        """Pay a G or M address; native XLM unless an asset is given."""
        what = Asset.native() if asset is None else asset
        return self.send(source, [Payment(destination, what, units_text(amount_atomic))], memo=memo)

    def send(
        self,
        source: Keypair,
        operations: Sequence[Operation],
        *,
        memo: Memo | None = None,
        signers: Sequence[Keypair] = (),
    ) -> Sent:
        """Build, sign and submit one transaction of source; more signers sign after it."""
        envelope = self.build(source, operations, memo=memo)
        for keypair in signers:
            envelope.sign(keypair)
        return self.submit(envelope)

    def build(
        self, source: Keypair, operations: Sequence[Operation], *, memo: Memo | None = None
    ) -> TransactionEnvelope:
        """A transaction at the account's next sequence, signed by source."""
        account = Account(source.public_key, self.sequence(source.public_key))
        builder = TransactionBuilder(account, self.passphrase, base_fee=BASE_FEE_STROOPS)
        builder.add_memo(NoneMemo() if memo is None else memo).set_timeout(BUILD_TIMEOUT_S)
        for operation in operations:
            builder.append_operation(operation)
        envelope = builder.build()
        envelope.sign(source)
        return envelope

    def submit(self, envelope: TransactionEnvelope | FeeBumpTransactionEnvelope) -> Sent:
        """Send until a ledger has it. Sending the same envelope again is always safe. Raises OutsiderFailed."""
        deadline = time.monotonic() + self._timeout_s
        text, tx_hash = envelope.to_xdr(), envelope.hash_hex()
        while time.monotonic() < deadline:
            # A node that is down, or was restarted and forgot its queue, is asked and offered to again.
            with suppress(httpx.HTTPError):
                self._offer(text, tx_hash)
                if self._drive:
                    self._http.post(f"{self._url}/devnet/close")
                sent = self._settled(tx_hash)
                if sent is not None:
                    return sent
            time.sleep(POLL_S)
        raise OutsiderFailed(f"{tx_hash} reached no ledger in {self._timeout_s} s")

    def sequence(self, address: str) -> int:
        """Current sequence of an account. Raises OutsiderFailed when there is no such account."""
        account = self._entry(_account_key(address)).account
        if account is None:
            raise OutsiderFailed(f"{address} is no account")
        return account.seq_num.sequence_number.int64

    def balance(self, address: str, asset: Asset | None = None) -> int:
        """Atomic units held. Raises OutsiderFailed when there is no such account or trustline."""
        if asset is None or asset.is_native():
            account = self._entry(_account_key(address)).account
            return 0 if account is None else account.balance.int64
        line = xdr.LedgerKeyTrustLine(
            Keypair.from_public_key(address).xdr_account_id(), asset.to_trust_line_asset_xdr_object()
        )
        found = self._entry(xdr.LedgerKey(xdr.LedgerEntryType.TRUSTLINE, trust_line=line)).trust_line
        return 0 if found is None else found.balance.int64

    def _entry(self, key: xdr.LedgerKey) -> xdr.LedgerEntryData:
        entries = self._call("getLedgerEntries", {"keys": [key.to_xdr()]})["entries"]
        if not entries:
            raise OutsiderFailed(f"no ledger entry for {key.to_xdr()}")
        return xdr.LedgerEntryData.from_xdr(entries[0]["xdr"])

    def _offer(self, text: str, tx_hash: str) -> None:
        """Hand the envelope to the node. A refusal counts only if no ledger has the transaction already."""
        answer = self._call("sendTransaction", {"transaction": text})
        if answer["status"] == "ERROR" and self._settled(tx_hash) is None:
            raise OutsiderFailed(f"{tx_hash} refused: {result_codes(answer['errorResultXdr'])}")

    def _settled(self, tx_hash: str) -> Sent | None:
        """The transaction if a ledger has it. Raises OutsiderFailed when it failed there."""
        found = self._call("getTransaction", {"hash": tx_hash})
        if found["status"] == "FAILED":
            raise OutsiderFailed(f"{tx_hash} failed: {result_codes(found['resultXdr'])}")
        return Sent(hash=tx_hash, ledger=int(found["ledger"])) if found["status"] == "SUCCESS" else None

    def _call(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        response = self._http.post(self._url, json=body)
        response.raise_for_status()
        answer = response.json()
        if "error" in answer:
            raise OutsiderFailed(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result


def units_text(amount_atomic: int) -> str:
    """Atomic units as the decimal text that operation builders take."""
    return f"{amount_atomic // UNITS}.{amount_atomic % UNITS:07d}"


def result_codes(result_xdr: str) -> str:
    """The names of a TransactionResult's codes, transaction first, then its operations."""
    result = xdr.TransactionResult.from_xdr(result_xdr).result
    names = [result.code.name]
    operations = result.results or []
    if result.inner_result_pair is not None:
        names.append(result.inner_result_pair.result.result.code.name)
        operations = result.inner_result_pair.result.result.results or []
    return " ".join(names + [_operation_code(operation) for operation in operations])


def _operation_code(operation: xdr.OperationResult) -> str:
    if operation.tr is None:
        return operation.code.name
    arms = (value for name, value in vars(operation.tr).items() if name != "type" and value is not None)
    return " ".join(str(arm.code.name) for arm in arms)


def _account_key(address: str) -> xdr.LedgerKey:
    account = xdr.LedgerKeyAccount(Keypair.from_public_key(address).xdr_account_id())
    return xdr.LedgerKey(xdr.LedgerEntryType.ACCOUNT, account=account)
