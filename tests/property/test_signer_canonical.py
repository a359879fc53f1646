"""What canonical bytes promise: once read strictly, only the order of the names is left to judge."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from signer.protocol.canonical import MalformedIntent, read_flat, write_flat

names = st.text("abz019_", min_size=1, max_size=4)
texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=6)
pairs = st.lists(st.tuples(names, texts), min_size=1, max_size=5, unique_by=lambda pair: pair[0])


@st.composite
def bent(draw: st.DrawFn) -> bytes:
    """Flat objects in any order of names, some with a few characters changed."""
    parts = [write_flat({name: text})[1:-1] for name, text in draw(pairs)]
    data = bytearray(b"{" + b",".join(parts) + b"}")
    for place, letter in draw(
        st.lists(st.tuples(st.integers(0, 200), st.sampled_from(b'\\"{},: a')), max_size=2)
    ):
        data[place % len(data)] = letter
    return bytes(data)


@settings(max_examples=1500, deadline=None)
@given(data=bent())
@example(data=b'{"b":"","a":""}')
@example(data=b'{"a":"\\\\\\""}')
def test_bytes_that_are_read_and_in_order_are_written_back_the_same(data: bytes) -> None:
    try:
        values = read_flat(data)
    except MalformedIntent:
        return
    assert (list(values) == sorted(values)) is (write_flat(values) == data)
