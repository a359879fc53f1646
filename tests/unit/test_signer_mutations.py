"""A valid request with anything in it changed: nothing is signed that the approvers did not approve."""

from collections.abc import Iterator
from dataclasses import fields, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from signer.decide import Decider
from signer.protocol import canonical
from signer.protocol.canonical import MalformedIntent
from signer.protocol.messages import Sign, dump, load_request
from signer.protocol.wire import MalformedMessage
from signer.refusal import Refusal
from tests.fakes.signer_desk import Desk, approved, make_key
from tests.fakes.signer_hsm import START, FakeToken
from tests.fakes.signer_kinds import SAMPLES, bind_kind, curve_of_kind, make_kind
from tests.fakes.signer_people import bind_evm, make_policy, make_transfer

_TEXTS = {str(value) for sample in SAMPLES.values() for value in sample.values()}
"""Values that are valid in some field of some kind."""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    made = Desk(directory=tmp_path_factory.mktemp("mutations"), token=FakeToken(), policy=make_policy())
    yield made
    if made.record is not None:
        made.record.close()


@pytest.fixture(scope="module")
def decider(desk: Desk) -> Decider:
    return desk.start()


@pytest.fixture(scope="module")
def asked(decider: Decider) -> Sign:
    return approved(make_transfer(make_key(decider), START), bind_evm(0))


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_changed_byte_of_a_request_yields_a_signature(
    desk: Desk, decider: Decider, asked: Sign, data: st.DataObject
) -> None:
    body = bytearray(dump(asked))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        request = load_request(bytes(body))
    except MalformedMessage:
        return
    if not isinstance(request, Sign) or (request.intent, request.approvals) == (
        asked.intent,
        asked.approvals,
    ):
        return
    with pytest.raises(Refusal):
        decider.sign(request)
    assert "sign" not in desk.token.calls


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_approvals_serve_no_other_intent(desk: Desk, decider: Decider, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(canonical.KINDS)))
    intent = make_kind(kind, make_key(decider, curve_of_kind(kind)), START)
    asked = approved(intent, bind_kind(intent, 1))
    name = data.draw(st.sampled_from([field.name for field in fields(intent)]))
    value = getattr(intent, name)
    drawn: st.SearchStrategy[object] = (
        st.integers(0, 2**256)
        if isinstance(value, int)
        else st.one_of(st.text(max_size=60), st.sampled_from(sorted(_TEXTS)))
    )
    changed = data.draw(drawn)
    if changed == value:
        return
    try:
        other = canonical.encode(replace(intent, **{name: changed}))
    except MalformedIntent:
        return
    with pytest.raises(Refusal):
        decider.sign(replace(asked, intent=other))
    assert "sign" not in desk.token.calls
