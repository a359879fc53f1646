"""The red team: it holds the API, every worker, Postgres, Redis and the network, and so the signer's socket with every role.

What it does not hold is the signer's process, the token and the approvers' keys. Each test is one attack; it asserts the code of
each refusal, and the fixture that it attacks through asserts that no signature left. `make redteam` prints what each one met.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from signer.protocol.intent import Intent
from signer.protocol.messages import Binding, Refused, Request, Response, Sign, Signed, load_response
from signer.protocol.wire import receive_frame, send_frame
from tests.fakes.signer_people import approve, make_policy
from tests.integration.signer_harness import MODULE, SignerProcess

_REFUSAL = "refusal"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of it runs on a real token."""
    for item in items:
        if "/redteam/" in str(item.path):
            item.add_marker(pytest.mark.stack)
            item.add_marker(pytest.mark.skipif(not MODULE.exists(), reason="needs softhsm2"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print each attack with the refusals that it met."""
    lines = []
    for report in terminalreporter.getreports("passed"):
        met = [str(value) for name, value in report.user_properties if name == _REFUSAL]
        if met:
            name = report.nodeid.partition("::")[2].removeprefix("test_").replace("_", " ")
            lines.append(f"{name:110} {', '.join(dict.fromkeys(met))}")
    if lines:
        terminalreporter.section("attacks and what they met")
        terminalreporter.write_line("\n".join(lines))


@dataclass
class Attack:
    """One attack on one signer: what it asked for, what it was refused with, and how many signatures it was owed."""

    signer: SignerProcess
    report: list[tuple[str, object]]
    met: list[str] = field(default_factory=list)
    owed: int = 0

    def meets(self, answer: Response) -> str:
        """This answer is a refusal; note and return its code."""
        assert isinstance(answer, Refused), answer
        self.met.append(answer.code)
        self.report.append((_REFUSAL, answer.code))
        return answer.code

    def refuses(self, code: str, request: Request) -> None:
        """Ask; nothing but this refusal may come back."""
        answer = self.signer.ask(request)
        assert self.meets(answer) == code, answer

    def refuses_intent(self, code: str, data: bytes, binding: Binding, *names: str) -> None:
        """Ask for the signature of these very bytes, with true approvals of exactly them."""
        self.refuses(code, Sign(intent=data, approvals=approve(data, *names), binding=binding))

    def refuses_bytes(self, code: str, body: bytes) -> None:
        """Send a body that no client of ours would write; the signer may hang up after its answer."""
        connection = self.signer.connect()
        send_frame(connection, body)
        answer = load_response(receive_frame(connection))
        self.signer.connect()
        assert self.meets(answer) == code, answer

    def is_signed(self, intent: Intent, binding: Binding, *names: str) -> Signed:
        """Ask for what the quorum did approve; the attack begins from there."""
        return self.owes(self.signer.sign(intent, binding, *names))

    def owes(self, answer: Response) -> Signed:
        """This answer is rightly a signature."""
        assert isinstance(answer, Signed), answer
        self.owed += 1
        return answer


def signatures(signer: SignerProcess) -> int:
    """Count what the signer's journal says that it signed."""
    lines = signer.journal.read_bytes().splitlines()
    return sum(b"TransactionSigned" in line for line in lines)


def changed(data: bytes, /, **values: object) -> bytes:
    """The canonical bytes with some fields set to other texts, whether or not that is still an intent."""
    document = json.loads(data) | {name: str(value) for name, value in values.items()}
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignerProcess]:
    """A signer whose policy asks for two of three."""
    running = SignerProcess(tmp_path_factory.mktemp("redteam"))
    running.prepare(make_policy())
    running.start()
    yield running
    running.stop()


@pytest.fixture
def attack(signer: SignerProcess, request: pytest.FixtureRequest) -> Iterator[Attack]:
    """One attack. At its end the journal holds the signatures that the quorum approved, and not one more."""
    before = signatures(signer)
    made = Attack(signer, request.node.user_properties)
    yield made
    assert made.met, "an attack has to meet a refusal"
    assert signatures(signer) - before == made.owed
