"""What is asked of the chain before a return is asked for. Network only, and no transaction open."""

from __future__ import annotations

from collections.abc import Mapping

from custody.chains.stellar.receivers import Receiver
from custody.db.session import Database
from custody.deposits import cases
from custody.kernel.assetid import ChainId
from custody.kernel.ids import CaseId, TenantId
from custody.withdrawals import receivers


async def look_up(
    db: Database, clients: Mapping[ChainId, object], tenant: TenantId, case_id: CaseId, destination: str
) -> Receiver | None:
    """How the sender stands towards getting a case's money back; None on chains where everybody can be paid.

    Raises UnknownCase, RpcUnreachable, RpcRefused, RpcUnreadable.
    """
    async with db.read(tenant) as session:
        case = await cases.get_case(session, case_id)
    return await receivers.look_up(clients, case.asset, destination)
