"""One connection of the signer: frames in pieces, frames ahead of their turn, and peers that are gone or do not read."""

import socket
from collections.abc import Iterator

import pytest

from signer.connections import Connection
from signer.protocol.messages import Health, HealthView, Refused, dump
from signer.protocol.wire import FRAME_MAX, MalformedMessage

BODY = dump(Health())
FRAME = len(BODY).to_bytes(4, "big") + BODY
ANSWER = HealthView(policy_version=1, journal_count=2, journal_head="ab" * 32, policy_hash="cd" * 32, keys=3)


class Line:
    """Both ends."""

    def __init__(self) -> None:
        ours, self.peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.connection = Connection(ours, frozenset({"requester"}), 10)

    def receive(self) -> bytes | None:
        return self.connection.receive(100)

    def answer(self) -> bytes | None:
        return self.connection.answer(ANSWER, 200, 300)


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.connection.close()
    made.peer.close()


def test_a_frame_in_pieces_is_handed_out_when_it_is_whole(line: Line) -> None:
    for byte in FRAME[:-1]:
        line.peer.sendall(bytes([byte]))
        assert line.receive() is None
    line.peer.sendall(FRAME[-1:])
    assert line.receive() == BODY


def test_the_time_of_a_request_runs_from_its_first_byte(line: Line) -> None:
    line.peer.sendall(FRAME[:1])
    line.receive()
    assert line.connection.deadline == 100
    line.peer.sendall(FRAME[1:2])
    line.connection.receive(150)
    assert line.connection.deadline == 100
    assert not line.connection.is_spent(100)
    assert line.connection.is_spent(101)


def test_a_request_that_is_worked_on_has_no_deadline(line: Line) -> None:
    line.peer.sendall(FRAME)
    assert line.receive() == BODY
    assert not line.connection.is_spent(10**9)
    assert line.answer() is None
    assert line.connection.deadline == 200
    assert line.connection.is_spent(201)


def test_a_frame_ahead_of_its_turn_is_handed_out_with_the_answer_before_it(line: Line) -> None:
    line.peer.sendall(FRAME + FRAME + FRAME[:3])
    assert line.receive() == BODY
    assert line.answer() == BODY
    assert line.answer() is None
    assert line.connection.deadline == 300
    assert line.peer.recv(FRAME_MAX).count(b"HealthView") == 2


def test_a_peer_that_floods_is_cut_off(line: Line) -> None:
    line.peer.sendall(FRAME)
    assert line.receive() == BODY
    line.peer.setblocking(False)
    for _ in range(8):
        line.peer.send(bytes(FRAME_MAX // 8))
        assert line.receive() is None
    line.peer.send(bytes(5))
    with pytest.raises(MalformedMessage, match="too_long"):
        line.receive()
    assert line.connection.is_ahead


@pytest.mark.parametrize("size", [0, 1, FRAME_MAX + 1, 2**32 - 1])
def test_an_impossible_length_is_malformed(line: Line, size: int) -> None:
    line.peer.sendall(size.to_bytes(4, "big"))
    with pytest.raises(MalformedMessage, match="too_long"):
        line.receive()


def test_an_answer_that_is_too_long_leaves_the_connection_to_be_closed(line: Line) -> None:
    line.peer.sendall(FRAME)
    line.receive()
    with pytest.raises(MalformedMessage, match="too_long"):
        line.connection.answer(Refused(code="x", text="y" * FRAME_MAX), 200, 300)
    line.connection.end()
    assert line.connection.is_spent(0)


def test_a_peer_that_does_not_read_never_makes_a_worker_wait(line: Line) -> None:
    def answer_for_ever() -> None:
        while True:
            line.connection.answer(Refused(code="x", text="y" * 60_000), 200, 300)

    with pytest.raises(BlockingIOError):
        answer_for_ever()


def test_a_peer_that_hung_up_keeps_its_room_until_its_request_is_answered(line: Line) -> None:
    line.peer.sendall(FRAME)
    assert line.receive() == BODY
    line.peer.close()
    with pytest.raises(ConnectionResetError):
        line.receive()
    line.connection.end()
    assert not line.connection.is_spent(10**9)
    with pytest.raises(ConnectionResetError):
        line.answer()
    assert line.connection.is_spent(0)
