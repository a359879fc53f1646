"""What the signer's bench asks for, made before the clock runs, and a client that only sends and receives."""

from __future__ import annotations

import itertools
import selectors
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import uuid4

from eth_account import Account
from stellar_sdk import Keypair

from bench.cells import Cell
from bench.signer_people import approvals_of
from bench.signer_stand import (
    CONNECTIONS,
    EVM_CHAIN_ID,
    NETWORK_ID,
    QUORUM_VAULT,
    STELLAR_CHAIN,
    SignerStand,
)
from signer.protocol import canonical
from signer.protocol.intent import EvmTransfer, Intent, StellarPayment
from signer.protocol.messages import (
    Binding,
    EvmBinding,
    KeyView,
    Sign,
    Signed,
    StellarBinding,
    dump,
    load_response,
)

PARTIES = 256
"""Different receivers, so that nothing known about one of them helps with the next."""


class Requests:
    """An endless supply of different requests for one key, each as the bytes of its frame."""

    def __init__(self, key: KeyView) -> None:
        self._key = key
        self._slots = itertools.count(1)
        if key.curve == "ed25519":
            self._receivers = [Keypair.random().public_key for _ in range(PARTIES)]
        else:
            self._receivers = [Account.create().address for _ in range(PARTIES)]

    def make(self, count: int) -> list[bytes]:
        """So many frames. Valid for an hour."""
        return [self._frame(next(self._slots), int(time.time())) for _ in range(count)]

    def _frame(self, slot: int, now: int) -> bytes:
        intent, binding = self._stellar(slot, now) if self._key.curve == "ed25519" else self._evm(slot, now)
        data = canonical.encode(intent)
        # Two people's approvals for the vault that asks for them, none for the other.
        approvals = approvals_of(canonical.digest(data)) if self._key.vault == QUORUM_VAULT else ()
        body = dump(Sign(intent=data, approvals=approvals, binding=binding))
        return len(body).to_bytes(4, "big") + body

    def _header(self, now: int) -> dict[str, Any]:
        return {
            "org": "acme",
            "vault": self._key.vault,
            "key_id": self._key.key_id,
            "request_id": str(uuid4()),
            "initiator": "maker",
            "policy_version": 1,
            "not_before": now - 5,
            "expires_at": now + 3600,
            "source": self._key.address,
        }

    def _stellar(self, slot: int, now: int) -> tuple[Intent, Binding]:
        intent = StellarPayment(
            **self._header(now),
            chain=STELLAR_CHAIN,
            network_id=NETWORK_ID,
            destination=self._receivers[slot % PARTIES],
            memo_type="text",
            memo=f"order {slot}",
            asset="native",
            amount=slot % 1000 + 1,
            max_fee=1000,
        )
        return intent, StellarBinding(
            sequence=slot, max_time=intent.expires_at, min_ledger=0, max_ledger=0, fee=200
        )

    def _evm(self, slot: int, now: int) -> tuple[Intent, Binding]:
        intent = EvmTransfer(
            **self._header(now),
            chain=f"eip155:{EVM_CHAIN_ID}",
            chain_id=EVM_CHAIN_ID,
            destination=self._receivers[slot % PARTIES],
            amount=slot % 1000 + 1,
            gas_limit=21_000,
            max_fee_per_gas=30 * 10**9,
            max_priority_fee_per_gas=10**9,
        )
        return intent, EvmBinding(nonce=slot, max_fee_per_gas=20 * 10**9, max_priority_fee_per_gas=10**9)


def drive(stand: SignerStand, frames: Sequence[bytes], connections: int = CONNECTIONS) -> Cell:
    """Send all frames over so many connections, each with one in flight; every answer has to be a signature."""
    waiting, answers = iter(frames), list[bytes]()
    latencies: list[float] = []
    clock = time.perf_counter
    started, served, used = clock(), stand.cpu_s(), time.process_time()
    with selectors.DefaultSelector() as selector:
        for _ in range(min(connections, len(frames))):
            connection = stand.connect()
            selector.register(connection, selectors.EVENT_READ, _Caller(connection, next(waiting), clock))
        while len(answers) < len(frames):
            for key, _ in selector.select():
                answer = key.data.receive()
                if answer is None:
                    continue
                answers.append(answer)
                latencies.append((clock() - key.data.asked) * 1e6)
                key.data.send_next(waiting)
        seconds = clock() - started
        for key in list(selector.get_map().values()):
            key.data.connection.close()
    refused = [load_response(answer) for answer in answers if b'"type":"Signed"' not in answer]
    assert not refused, refused[0]
    assert all(isinstance(load_response(answer), Signed) for answer in answers[:10])
    return Cell(
        done=len(answers),
        seconds=seconds,
        server_cpu_s=stand.cpu_s() - served,
        client_cpu_s=time.process_time() - used,
        latencies_us=latencies,
    )


class _Caller:
    """One connection of the client."""

    def __init__(self, connection: Any, frame: bytes, clock: Callable[[], float]) -> None:
        self.connection = connection
        self._clock = clock
        self._received = b""
        self._send(frame)

    def send_next(self, frames: Iterator[bytes]) -> None:
        """Send the next frame, if there is one."""
        frame = next(frames, None)
        if frame is not None:
            self._send(frame)

    def receive(self) -> bytes | None:
        """The answer's body, once it is whole."""
        part = self.connection.recv(65_536)
        assert part, "the signer hung up"
        self._received += part
        size = int.from_bytes(self._received[:4], "big") + 4
        if len(self._received) < size:
            return None
        body, self._received = self._received[4:], b""
        return body

    def _send(self, frame: bytes) -> None:
        self.asked = self._clock()
        self.connection.sendall(frame)
