"""Friendbot: gives test accounts their first 10,000 XLM, as on the public test networks.

Requests are collected and paid with one transaction per ledger, so any number of callers can ask at once.
"""

import hashlib

from stellar_sdk import Account, Keypair, StrKey, TransactionBuilder

from devnet.stellar.close import root_keypair
from devnet.stellar.envelope import Frame, parse_envelope
from devnet.stellar.state import Layer
from devnet.stellar.txcheck import BASE_FEE_STROOPS

STARTING_XLM = "10000"
FRIENDBOT_XLM = "10000000000"
"""What the root account gives friendbot in ledger 2: a tenth of all coins."""
BATCH = 100
"""Most accounts per transaction, the protocol's limit of operations."""


class AlreadyFunded(ValueError):
    """The account exists; friendbot only creates accounts."""


class AddressInvalid(ValueError):
    """Not a G… address."""


class Friendbot:
    """Waiting requests and the hashes of the transactions that served them."""

    def __init__(self, passphrase: str, network_id: bytes) -> None:
        self._passphrase, self._network_id = passphrase, network_id
        self.keypair = friendbot_keypair(network_id)
        self._waiting: dict[bytes, None] = {}
        self._paid: dict[bytes, str] = {}

    def ask(self, address: str, layer: Layer) -> bytes:
        """Queue an address for the next ledger and return its raw key. Asking twice before then is one request."""
        if not StrKey.is_valid_ed25519_public_key(address):
            raise AddressInvalid(f"{address!r} is not a G address")
        raw = StrKey.decode_ed25519_public_key(address)
        if layer.account(raw) is not None:
            raise AlreadyFunded("account already funded to starting balance")
        self._waiting[raw] = None
        return raw

    def paid_by(self, raw: bytes) -> str | None:
        """Hash of the transaction that created an account on request."""
        return self._paid.get(raw)

    def next_payment(self, layer: Layer) -> Frame | None:
        """One signed transaction for the requests that wait, or None."""
        batch = [raw for raw in self._waiting if layer.account(raw) is None][:BATCH]
        source = layer.account(self.keypair.raw_public_key())
        if not batch or source is None:
            return None
        addresses = [StrKey.encode_ed25519_public_key(raw) for raw in batch]
        return _creation(
            self._passphrase, self._network_id, self.keypair, source.seq, addresses, STARTING_XLM
        )

    def settle(self, payment: Frame | None, layer: Layer) -> None:
        """After a ledger: what exists now is served; the rest waits for the next one."""
        for raw in [raw for raw in self._waiting if layer.account(raw) is not None]:
            del self._waiting[raw]
            if payment is not None:
                self._paid[raw] = payment.tx_hash.hex()


def friendbot_keypair(network_id: bytes) -> Keypair:
    return Keypair.from_raw_ed25519_seed(hashlib.sha256(network_id + b"friendbot").digest())


def founding_payment(passphrase: str, network_id: bytes) -> Frame:
    """The transaction of ledger 2: the root account creates friendbot."""
    bot = friendbot_keypair(network_id).public_key
    return _creation(passphrase, network_id, root_keypair(network_id), 0, [bot], FRIENDBOT_XLM)


def _creation(
    passphrase: str, network_id: bytes, signer: Keypair, seq: int, addresses: list[str], amount: str
) -> Frame:
    builder = TransactionBuilder(Account(signer.public_key, seq), passphrase, base_fee=BASE_FEE_STROOPS)
    for address in addresses:
        builder.append_create_account_op(destination=address, starting_balance=amount)
    # Bound to the very ledger it is built for, so that time cannot make it invalid.
    # Without a time bound: the ledger it is made for may close any time later.
    envelope = builder.add_time_bounds(0, 0).build()
    envelope.sign(signer)
    return parse_envelope(envelope.to_xdr(), network_id)
