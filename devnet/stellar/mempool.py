"""The queue of transactions that wait for a ledger, with the answers a real node was measured to give.

One transaction per source account waits at a time. What was applied, or turned out invalid while it waited, is
banned by its full hash for a while: resending it says TRY_AGAIN_LATER, not a bad sequence. Queue and bans live in
memory only, as in a real node: after a restart the same resend is a bad sequence.
"""

from collections import defaultdict
from dataclasses import dataclass
from enum import Enum

from stellar_sdk import xdr

from devnet.stellar.close import MAX_OPERATIONS
from devnet.stellar.envelope import Frame
from devnet.stellar.results import TxCode, tx_result
from devnet.stellar.state import Layer
from devnet.stellar.txcheck import BASE_FEE_STROOPS, Moment, refusal

BAN_LEDGERS = 10
"""How long a transaction that left the queue stays banned."""
REPLACE_FACTOR = 10
"""A fee bump replaces the waiting transaction of the same sequence when it bids this many times its rate."""


class Status(Enum):
    """The four answers of sendTransaction."""

    PENDING = "PENDING"
    """Taken into the queue."""
    DUPLICATE = "DUPLICATE"
    """The same transaction waits already."""
    TRY_AGAIN_LATER = "TRY_AGAIN_LATER"
    """Not taken; the same envelope may be taken later."""
    ERROR = "ERROR"
    """Not valid; the result says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Answer to one submission."""

    status: Status
    error: xdr.TransactionResult | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A transaction in the queue."""

    frame: Frame
    from_ledger: int
    """First ledger that may take it; later than the next one only when told to delay."""
    arrived: int


class Mempool:
    """Transactions by source account, in order of arrival."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, Waiting] = {}
        self._banned: dict[bytes, int] = {}
        self._arrivals = 0

    def judge(self, frame: Frame, layer: Layer, moment: Moment) -> Verdict:
        """Decide about a submission without taking it in."""
        if frame.full_hash in self._banned:
            return Verdict(status=Status.TRY_AGAIN_LATER)
        current = self._waiting.get(frame.source)
        if current is not None:
            early = _against_waiting(frame, current.frame)
            if early is not None:
                return early
        error = refusal(frame, layer, moment, owed=self._owed_by(frame.fee_source, without=frame.source))
        if error is not None:
            return Verdict(status=Status.ERROR, error=error)
        return Verdict(status=Status.PENDING)

    def add(self, frame: Frame, *, from_ledger: int) -> None:
        """Take in what was judged PENDING. Replaces the source's waiting transaction, if any."""
        self._arrivals += 1
        self._waiting[frame.source] = Waiting(frame=frame, from_ledger=from_ledger, arrived=self._arrivals)

    def select(self, layer: Layer, moment: Moment, *, least_bid: int = 0) -> list[Frame]:
        """The valid transactions for the next ledger, best bid first, within its capacity, that bid enough per operation.

        What is no longer valid leaves the queue; what does not fit, is too cheap or is delayed stays.
        """
        due = [w for w in self._waiting.values() if w.from_ledger <= moment.ledger]
        due.sort(key=lambda w: (-(w.frame.bid // w.frame.fee_units), w.arrived))
        chosen: list[Frame] = []
        owed: defaultdict[bytes, int] = defaultdict(int)
        room = MAX_OPERATIONS
        for waiting in due:
            frame = waiting.frame
            if refusal(frame, layer, moment, owed=owed[frame.fee_source]) is not None:
                self._leave(frame, moment.ledger)
                continue
            if len(frame.tx.operations) > room or frame.bid < least_bid * frame.fee_units:
                continue
            owed[frame.fee_source] += frame.bid
            room -= len(frame.tx.operations)
            chosen.append(frame)
        return chosen

    def applied(self, frames: list[Frame], ledger: int) -> None:
        """Forget what a ledger took and let old bans expire."""
        for frame in frames:
            self._leave(frame, ledger)
        self._banned = {h: until for h, until in self._banned.items() if until > ledger}

    def hashes(self) -> list[str]:
        return [w.frame.tx_hash.hex() for w in self._waiting.values()]

    def _leave(self, frame: Frame, ledger: int) -> None:
        self._banned[frame.full_hash] = ledger + BAN_LEDGERS
        current = self._waiting.get(frame.source)
        if current is not None and current.frame.full_hash == frame.full_hash:
            del self._waiting[frame.source]

    def _owed_by(self, payer: bytes, *, without: bytes) -> int:
        """Stroops the payer bids for waiting transactions of other sources."""
        others = (w.frame for source, w in self._waiting.items() if source != without)
        return sum(frame.bid for frame in others if frame.fee_source == payer)


def _against_waiting(frame: Frame, current: Frame) -> Verdict | None:
    """Answer that follows from the source's waiting transaction alone; None when the frame may replace it."""
    if frame.full_hash == current.full_hash or frame.tx_hash == current.tx_hash:
        return Verdict(status=Status.DUPLICATE)
    fee = BASE_FEE_STROOPS * frame.fee_units
    if frame.seq < current.seq:
        return Verdict(status=Status.ERROR, error=tx_result(frame, fee, TxCode.txBAD_SEQ))
    if frame.fee_bump is None or frame.seq != current.seq:
        return Verdict(status=Status.TRY_AGAIN_LATER)
    # Rates compared by cross-multiplication, so that nothing is rounded.
    if frame.bid * current.fee_units < REPLACE_FACTOR * current.bid * frame.fee_units:
        least = -(-REPLACE_FACTOR * current.bid * frame.fee_units // current.fee_units)
        error = tx_result(frame, least, TxCode.txINSUFFICIENT_FEE, outer_refused=True)
        return Verdict(status=Status.ERROR, error=error)
    return None
