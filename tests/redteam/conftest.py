"""The red team: it holds the API, every worker, Postgres, Redis and the network, and so the signer's socket with every role.

What it does not hold is the signer's process, the token and the approvers' keys. Each test is one attack; it asserts the code of
each refusal, and the fixture that it attacks through asserts that no signature left. `make redteam` prints what each one met.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar
from uuid import uuid4

import pytest

from signer.answers import answer
from signer.decide import Decider
from signer.journal import FILE_NAME
from signer.protocol.intent import Intent
from signer.protocol.messages import (
    Binding,
    ChangePolicy,
    CreateKey,
    KeyView,
    Refused,
    Request,
    Response,
    Sign,
    Signed,
    load_response,
)
from signer.protocol.policy_messages import PolicyChanged
from signer.protocol.wire import receive_frame, send_frame
from signer.refusal import Refusal
from tests.fakes.signer_desk import Desk, approved
from tests.fakes.signer_hsm import FakeToken
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


class Asked(Protocol):
    """A signer that can be asked."""

    @property
    def journal(self) -> Path: ...

    def ask(self, request: Request) -> Response: ...


@dataclass
class DeskSigner:
    """A signer on a software token, asked as the process is; its clock and its deaths are the test's."""

    desk: Desk
    decider: Decider

    @property
    def journal(self) -> Path:
        return self.desk.directory / FILE_NAME

    def ask(self, request: Request) -> Response:
        try:
            return answer(self.decider, frozenset({"requester", "operator"}), request)
        except Refusal as refusal:
            return Refused(code=refusal.code, text=refusal.text)

    def restart(self) -> None:
        self.decider = self.desk.start()


S = TypeVar("S", bound=Asked)


@dataclass
class Attack(Generic[S]):
    """One attack on one signer: what it asked for, what it was refused with, and how many signatures it was owed."""

    signer: S
    report: list[tuple[str, object]]
    met: list[str] = field(default_factory=list)
    owed: int = 0
    before: int = 0
    """Signatures that the journal held when it began."""

    def notes(self, refusal: str) -> None:
        """The attack met this."""
        self.met.append(refusal)
        self.report.append((_REFUSAL, refusal))

    def meets(self, answer: Response) -> str:
        """This answer is a refusal; note and return its code."""
        assert isinstance(answer, Refused), answer
        self.notes(answer.code)
        return answer.code

    def refuses(self, code: str, request: Request, said: str = "") -> None:
        """Ask; nothing but this refusal may come back, with these words in its text."""
        answer = self.signer.ask(request)
        assert self.meets(answer) == code, answer
        assert isinstance(answer, Refused)
        assert said in answer.text, answer

    def refuses_intent(self, code: str, data: bytes, binding: Binding, *names: str) -> None:
        """Ask for the signature of these very bytes, with true approvals of exactly them."""
        self.refuses(code, Sign(intent=data, approvals=approve(data, *names), binding=binding))

    def is_signed(self, intent: Intent, binding: Binding, *names: str) -> Signed:
        """Ask for what the quorum did approve; the attack begins from there."""
        return self.owes(self.signer.ask(approved(intent, binding, *names)))

    def owes(self, answer: Response) -> Signed:
        """This answer is rightly a signature."""
        assert isinstance(answer, Signed), answer
        self.owed += 1
        return answer

    def makes_key(self, curve: str = "secp256k1", **changes: str) -> KeyView:
        """A key of the organisation under attack, or of another."""
        fields = {"org": "acme", "vault": "hot", "label": "one", "request_id": str(uuid4())}
        made = self.signer.ask(CreateKey(curve=curve, **{**fields, **changes}))
        assert isinstance(made, KeyView), made
        return made

    def takes_policy(self, request: ChangePolicy) -> None:
        """The quorum does change the policy; the attack begins from there."""
        answer = self.signer.ask(request)
        assert isinstance(answer, PolicyChanged), answer

    def ends(self) -> None:
        """The journal holds the signatures that were owed, and not one more."""
        assert self.met, "an attack has to meet a refusal"
        assert signatures(self.signer) - self.before == self.owed


class ProcessAttack(Attack[SignerProcess]):
    """An attack on a signer's process: through its socket, and on what lies around it."""

    def refuses_bytes(self, code: str, body: bytes) -> None:
        """Send a body that no client of ours would write; the signer may hang up after its answer."""
        connection = self.signer.connect()
        send_frame(connection, body)
        answer = load_response(receive_frame(connection))
        self.signer.connect()
        assert self.meets(answer) == code, answer

    def keeps_from_starting(self, said: str, signer: SignerProcess | None = None) -> None:
        """The process, or another one, ends by itself and says why."""
        code, line = (signer or self.signer).refuse_to_start()
        assert code in (2, 3), line
        assert said in line
        self.notes(f"no start: {said}")


def signatures(signer: Asked) -> int:
    """Count what the signer's journal says that it signed."""
    return signer.journal.read_bytes().count(b'"TransactionSigned"')


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
def attack(signer: SignerProcess, request: pytest.FixtureRequest) -> Iterator[ProcessAttack]:
    """One attack on the module's signer."""
    made = ProcessAttack(signer, request.node.user_properties, before=signatures(signer))
    yield made
    made.ends()


@pytest.fixture
def attack_on(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., ProcessAttack]]:
    """Begin an attack on a process of its own, with this policy."""
    made: list[ProcessAttack] = []

    def begin(**policy: object) -> ProcessAttack:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        running = SignerProcess(directory)
        made.append(ProcessAttack(running, request.node.user_properties))
        running.prepare(make_policy(**policy))
        running.start()
        return made[-1]

    yield begin
    for attack in made:
        attack.signer.kill()
    for attack in made:
        attack.ends()


@pytest.fixture
def desk_attack_on(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[..., Attack[DeskSigner]]]:
    """Begin an attack on a signer whose clock and deaths are the test's, with this policy."""
    made: list[Attack[DeskSigner]] = []

    def begin(**policy: object) -> Attack[DeskSigner]:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        desk = Desk(directory=directory, token=FakeToken(), policy=make_policy(**policy))
        made.append(Attack(DeskSigner(desk, desk.start()), request.node.user_properties))
        return made[-1]

    yield begin
    for attack in made:
        assert attack.signer.desk.record is not None
        attack.signer.desk.record.close()
    for attack in made:
        attack.ends()
