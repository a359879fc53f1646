"""The development network as one object: submit envelopes, close ledgers, read what was closed.

For development and tests only. It has one node, no consensus and no value; its keys follow from its passphrase and
are known to everyone.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stellar_sdk import Keypair, Network, StrKey, xdr

from devnet.stellar.close import (
    TOTAL_COINS,
    Chain,
    close_ledger,
    genesis_header,
    header_hash,
    root_keypair,
)
from devnet.stellar.entries import Account, Entry
from devnet.stellar.envelope import Frame, parse_envelope
from devnet.stellar.friendbot import Friendbot, founding_payment, friendbot_keypair
from devnet.stellar.mempool import Mempool, Status
from devnet.stellar.meta import entry_to_xdr, replay
from devnet.stellar.misbehave import Faults, Misbehaviour, with_wrong_parent
from devnet.stellar.state import Layer, LedgerState, key_from_xdr
from devnet.stellar.store import History, LedgerLog, LedgerRecord, TxRecord, check_link
from devnet.stellar.txcheck import Moment

DEVNET_PASSPHRASE = "Custody Local Development Network ; no value"
NOTICE = "development network: one process, no consensus, no value"
"""What every answer of the network says about it."""


def unix_time() -> int:
    return int(time.time())


class LocalNetwork:
    """Thread-safe: every public method takes the network's lock.

    `clock` gives Unix seconds. Close times never go back; with strict_close_time they also never repeat, as on the
    real network, which makes the chain's time run ahead when ledgers close faster than once a second.
    """

    def __init__(
        self,
        *,
        passphrase: str = DEVNET_PASSPHRASE,
        clock: Callable[[], int] = unix_time,
        state_dir: Path | None = None,
        strict_close_time: bool = False,
    ) -> None:
        self.passphrase = passphrase
        self.network_id = Network(passphrase).network_id()
        self.misbehaviour = Misbehaviour()
        self._clock, self._strict = clock, strict_close_time
        self._lock = threading.RLock()
        self._chain = Chain(network_id=self.network_id, node=root_keypair(self.network_id))
        self._state = LedgerState()
        self._history = History(self.network_id)
        self._pool = Mempool()
        self._friendbot = Friendbot(passphrase, self.network_id)
        self._header = genesis_header()
        root = Account(account=self.root.raw_public_key(), balance=TOTAL_COINS, seq=0, modified=1)
        genesis = Layer(self._state, 1)
        genesis.put(root)
        genesis.commit_into(self._state)
        self._log = None if state_dir is None else LedgerLog(state_dir, passphrase)
        for raw in [] if self._log is None else self._log.metas:
            self._reload(raw)
        if not len(self._history):
            self._close([founding_payment(passphrase, self.network_id)], self._next_close_time())

    @property
    def root(self) -> Keypair:
        """The account that owns the coins of genesis."""
        return root_keypair(self.network_id)

    @property
    def friendbot(self) -> Keypair:
        return friendbot_keypair(self.network_id)

    def submit(self, envelope_xdr: str) -> dict[str, Any]:
        """Answer a submission as sendTransaction does. Raises EnvelopeInvalid for text that is no envelope."""
        frame = parse_envelope(envelope_xdr, self.network_id)
        with self._lock:
            faults = self.misbehaviour
            answer: dict[str, Any] = {
                "hash": frame.tx_hash.hex(),
                "latestLedger": self._history.latest.sequence,
                "latestLedgerCloseTime": str(self._history.latest.close_time),
            }
            if faults.take("try_again_later_next"):
                return answer | {"status": Status.TRY_AGAIN_LATER.value}
            moment = self._next_moment()
            verdict = self._pool.judge(frame, Layer(self._state, moment.ledger), moment)
            if verdict.status is Status.PENDING and not faults.take("drop_next"):
                delay = faults.faults.delay_ledgers if faults.take("delay_next") else 0
                self._pool.add(frame, from_ledger=moment.ledger + delay)
            if verdict.error is not None:
                answer["errorResultXdr"] = verdict.error.to_xdr()
            return answer | {"status": verdict.status.value}

    def close(self) -> xdr.LedgerCloseMeta:
        """Close one ledger now and return its meta."""
        with self._lock:
            moment = self._next_moment()
            view = Layer(self._state, moment.ledger)
            frames = self._pool.select(view, moment, least_bid=self.misbehaviour.faults.surge_fee)
            payment = self._friendbot.next_payment(view)
            if payment is not None:
                frames.append(payment)
            meta = self._close(frames, moment.close_time)
            self._friendbot.settle(payment, Layer(self._state, moment.ledger))
            return meta

    def fund(self, address: str) -> bytes:
        """Ask friendbot to create an account in the next ledger. Raises AlreadyFunded, AddressInvalid."""
        with self._lock:
            return self._friendbot.ask(address, self._view())

    def funded_by(self, raw: bytes) -> str | None:
        """Hash of friendbot's transaction once the account exists."""
        with self._lock:
            exists = self._view().account(raw) is not None
            return self._friendbot.paid_by(raw) or ("" if exists else None)

    @property
    def latest(self) -> LedgerRecord:
        with self._lock:
            return self._history.latest

    @property
    def oldest(self) -> LedgerRecord:
        """The oldest ledger that is given out."""
        with self._lock:
            kept = self.misbehaviour.faults.keep_ledgers
            first = self._history.latest.sequence - kept + 1
            return (
                self._history.ledgers(first, 1)[0] if 0 < kept < len(self._history) else self._history.oldest
            )

    def ledgers(self, start: int, count: int) -> list[LedgerRecord]:
        """Closed ledgers from start on, the newest with a wrong parent if so ordered."""
        with self._lock:
            found = self._history.ledgers(start, count)
            if found and self.misbehaviour.take("wrong_parent_next"):
                found = [*found[:-1], with_wrong_parent(found[-1])]
            return found

    def transaction(self, tx_hash: bytes) -> TxRecord | None:
        with self._lock:
            return self._history.transaction(tx_hash)

    def transactions_of(self, ledger: int) -> list[TxRecord]:
        with self._lock:
            return self._history.transactions_of(ledger)

    def entry(self, key: xdr.LedgerKey) -> xdr.LedgerEntry | None:
        """A ledger entry as of the last closed ledger."""
        known = key_from_xdr(key)
        with self._lock:
            entry = None if known is None else self._state.get(known)
        return None if entry is None else entry_to_xdr(entry)

    def entries(self) -> list[Entry]:
        """Every entry as of the last closed ledger."""
        with self._lock:
            return self._state.entries()

    def order_faults(self, wanted: dict[str, Any]) -> Faults:
        with self._lock:
            return self.misbehaviour.order(wanted)

    def take_fault(self, name: str) -> bool:
        with self._lock:
            return self.misbehaviour.take(name)

    def out_of_service(self) -> bool:
        with self._lock:
            return self.misbehaviour.out_of_service()

    def describe(self) -> dict[str, Any]:
        """Everything a developer wants to know at a glance."""
        with self._lock:
            latest = self._history.latest
            return {
                "notice": NOTICE,
                "passphrase": self.passphrase,
                "latestLedger": latest.sequence,
                "latestLedgerHash": latest.hash.hex(),
                "latestLedgerCloseTime": latest.close_time,
                "entries": len(self._state.entries()),
                "pending": self._pool.hashes(),
                "rootAccount": self.root.public_key,
                "friendbotAccount": self.friendbot.public_key,
                "faults": asdict(self.misbehaviour.faults),
            }

    def balance(self, address: str) -> int | None:
        """Stroops of an account, None where there is none."""
        with self._lock:
            account = self._view().account(StrKey.decode_ed25519_public_key(address))
            return None if account is None else account.balance

    def shut_down(self) -> None:
        """Release the state directory."""
        with self._lock:
            if self._log is not None:
                self._log.close()
                self._log = None

    def _close(self, frames: list[Frame], close_time: int) -> xdr.LedgerCloseMeta:
        meta, layer = close_ledger(self._chain, self._state, self._header, frames, close_time)
        raw = meta.to_xdr_bytes()
        # On disk before anyone can read it: a restart never takes back a ledger that was served.
        if self._log is not None:
            self._log.append(raw)
        layer.commit_into(self._state)
        self._history.add(meta, raw)
        self._header = self._history.latest.header.header
        self._pool.applied(frames, self._header.ledger_seq.uint32)
        return meta

    def _reload(self, raw: bytes) -> None:
        meta = xdr.LedgerCloseMeta.from_xdr_bytes(raw)
        replay(self._state, meta)
        self._history.add(meta, raw)
        latest = self._history.latest.header.header
        check_link(latest, header_hash(self._header))
        self._header = latest

    def _view(self) -> Layer:
        return Layer(self._state, self._header.ledger_seq.uint32)

    def _next_moment(self) -> Moment:
        return Moment(ledger=self._header.ledger_seq.uint32 + 1, close_time=self._next_close_time())

    def _next_close_time(self) -> int:
        previous = self._header.scp_value.close_time.time_point.uint64
        return max(self._clock(), previous + 1 if self._strict else previous)
