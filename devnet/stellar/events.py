"""CAP-67 events: what moved, between whom, in the same form core emits them.

Rules (CAP-67): moves from the issuer are mints, moves to it are burns, both being the issuer is a transfer; the
muxed id of the destination wins over the memo; burns and clawbacks carry neither.
"""

from dataclasses import dataclass

from stellar_sdk import StrKey, xdr

from devnet.stellar.entries import (
    NATIVE,
    AssetRef,
    account_id_xdr,
    balance_id_xdr,
    sac_contract_id,
)
from devnet.stellar.envelope import muxed_raw
from devnet.stellar.meta import POINT


@dataclass(frozen=True, slots=True)
class Holder:
    """An account, or a claimable balance when is_balance is set."""

    raw: bytes
    is_balance: bool = False

    def address(self) -> xdr.SCAddress:
        if self.is_balance:
            return xdr.SCAddress(
                xdr.SCAddressType.SC_ADDRESS_TYPE_CLAIMABLE_BALANCE,
                claimable_balance_id=balance_id_xdr(self.raw),
            )
        return xdr.SCAddress(xdr.SCAddressType.SC_ADDRESS_TYPE_ACCOUNT, account_id=account_id_xdr(self.raw))


class EventLog:
    """Collects the events of one operation."""

    def __init__(self, network_id: bytes) -> None:
        self._network_id = network_id
        self.events: list[xdr.ContractEvent] = []

    def moved(
        self, asset: AssetRef, source: Holder, target: Holder, amount: int, tag: xdr.SCVal | None = None
    ) -> None:
        """A transfer, or a mint or burn where the issuer is on one side."""
        issuer = None if asset.issuer is None else Holder(asset.issuer)
        if source == issuer and target != issuer:
            self._add("mint", asset, [target], _amount_and_tag(amount, tag))
        elif target == issuer and source != issuer:
            self._add("burn", asset, [source], _i128(amount))
        else:
            self._add("transfer", asset, [source, target], _amount_and_tag(amount, tag))

    def clawed_back(self, asset: AssetRef, source: Holder, amount: int) -> None:
        self._add("clawback", asset, [source], _i128(amount))

    def authorized(self, asset: AssetRef, account: bytes, *, now: bool) -> None:
        self._add("set_authorized", asset, [Holder(account)], xdr.SCVal(xdr.SCValType.SCV_BOOL, b=now))

    def _add(self, name: str, asset: AssetRef, holders: list[Holder], data: xdr.SCVal) -> None:
        topics = [_symbol(name), *(_address(h) for h in holders), _text(sep11(asset))]
        self.events.append(_event(self._network_id, asset, topics, data))


def fee_event(network_id: bytes, payer: bytes, amount: int) -> xdr.TransactionEvent:
    """The transaction-level event of the fee, taken before any transaction applied."""
    topics = [_symbol("fee"), _address(Holder(payer))]
    return xdr.TransactionEvent(
        xdr.TransactionEventStage.TRANSACTION_EVENT_STAGE_BEFORE_ALL_TXS,
        _event(network_id, NATIVE, topics, _i128(amount)),
    )


def destination_tag(destination: xdr.MuxedAccount, memo: xdr.Memo) -> xdr.SCVal | None:
    """The to_muxed_id of a destination: its muxed id, else the memo, else nothing."""
    kinds = xdr.SCValType
    if destination.med25519 is not None:
        return xdr.SCVal(kinds.SCV_U64, u64=destination.med25519.id)
    if memo.id is not None:
        return xdr.SCVal(kinds.SCV_U64, u64=memo.id)
    if memo.text is not None:
        return xdr.SCVal(kinds.SCV_STRING, str=xdr.SCString(memo.text))
    digest = memo.hash if memo.hash is not None else memo.ret_hash
    if digest is not None:
        return xdr.SCVal(kinds.SCV_BYTES, bytes=xdr.SCBytes(digest.hash))
    return None


def sep11(asset: AssetRef) -> str:
    """`native` or CODE:ISSUER. Source: SEP-11 asset strings, as CAP-67 topics carry them."""
    if asset.code is None or asset.issuer is None:
        return "native"
    return f"{asset.code.decode('ascii')}:{StrKey.encode_ed25519_public_key(asset.issuer)}"


def account_holder(account: xdr.MuxedAccount) -> Holder:
    return Holder(muxed_raw(account))


def _event(network_id: bytes, asset: AssetRef, topics: list[xdr.SCVal], data: xdr.SCVal) -> xdr.ContractEvent:
    return xdr.ContractEvent(
        ext=POINT,
        contract_id=xdr.ContractID(xdr.Hash(sac_contract_id(asset, network_id))),
        type=xdr.ContractEventType.CONTRACT,
        body=xdr.ContractEventBody(0, v0=xdr.ContractEventV0(topics, data)),
    )


def _amount_and_tag(amount: int, tag: xdr.SCVal | None) -> xdr.SCVal:
    if tag is None:
        return _i128(amount)
    fields = [
        xdr.SCMapEntry(_symbol("amount"), _i128(amount)),
        xdr.SCMapEntry(_symbol("to_muxed_id"), tag),
    ]
    return xdr.SCVal(xdr.SCValType.SCV_MAP, map=xdr.SCMap(fields))


def _i128(amount: int) -> xdr.SCVal:
    parts = xdr.Int128Parts(xdr.Int64(amount >> 64), xdr.Uint64(amount & (2**64 - 1)))
    return xdr.SCVal(xdr.SCValType.SCV_I128, i128=parts)


def _symbol(name: str) -> xdr.SCVal:
    return xdr.SCVal(xdr.SCValType.SCV_SYMBOL, sym=xdr.SCSymbol(name.encode()))


def _text(text: str) -> xdr.SCVal:
    return xdr.SCVal(xdr.SCValType.SCV_STRING, str=xdr.SCString(text.encode()))


def _address(holder: Holder) -> xdr.SCVal:
    return xdr.SCVal(xdr.SCValType.SCV_ADDRESS, address=holder.address())
