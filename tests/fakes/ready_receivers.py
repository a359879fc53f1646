"""A Stellar client whose node does not answer, but for the question about receivers: each is as the test says."""

from __future__ import annotations

from dataclasses import replace

from custody.chains.errors import RpcUnreachable
from custody.chains.jsonrpc import JsonRpc
from custody.chains.stellar.receivers import Receiver
from custody.chains.stellar.rpc import StellarRpc
from custody.kernel.assetid import AssetId
from custody.settings import ChainSettings

READY = Receiver(exists=True, trusts=True, authorized=True, room=2**62, memo_required=False, height=7)


class ReadyReceivers(StellarRpc):
    """Everybody can be paid, until told otherwise."""

    def __init__(self, chain: ChainSettings) -> None:
        super().__init__(chain.id, JsonRpc(chain.rpc_url), chain.network_passphrase)  # type: ignore[arg-type]  # a plain str
        self.answer = READY
        self.reachable = True
        self.asked = 0

    def tell(self, **changes: object) -> None:
        """From now on receivers are ready but for this."""
        self.answer = replace(READY, **changes)  # type: ignore[arg-type]  # a table of overrides

    async def receiver(self, account: str, asset: AssetId) -> Receiver:
        del account, asset
        self.asked += 1
        if not self.reachable:
            raise RpcUnreachable(method="getLedgerEntries", reason="ConnectError")
        return self.answer
