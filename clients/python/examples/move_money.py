"""Create a customer with two wallets, move money between them twice under one key, and read the books.

Wants CUSTODY_URL, CUSTODY_KEY, and in CUSTODY_FUNDED_WALLET a wallet that has some of CUSTODY_ASSET.
"""

from __future__ import annotations

import os
from uuid import uuid4

from custody_client import models
from custody_client.client import Client, connect
from custody_client.transport import ApiError, each


def run(client: Client, funded: str, asset: str) -> str:
    """Returns the transfer's id."""
    mark = uuid4().hex[:12]
    customer = client.create_customer(models.CustomerIn(name="Ada", external_ref=f"ada-{mark}"))
    wallet = client.create_wallet(models.WalletIn(customer_id=customer.id, name="Savings"))
    order = models.TransferIn(from_wallet_id=funded, to_wallet_id=wallet.id, asset=asset, amount="250")
    first = client.make_transfer(order, idempotency_key=f"order-{mark}")
    again = client.make_transfer(order, idempotency_key=f"order-{mark}")
    if first.id != again.id:
        raise RuntimeError("the same key moved money twice")
    (balance,) = client.get_balances(wallet.id).data
    print(
        f"{wallet.id} has {balance.display}, of {len(list(each(client.list_transfers, limit=100)))} transfers"
    )
    try:
        client.make_transfer(
            models.TransferIn(from_wallet_id=wallet.id, to_wallet_id=funded, asset=asset, amount="9" * 20)
        )
    except ApiError as refused:
        print(f"refused: {refused.code}")
    return first.id


if __name__ == "__main__":
    run(
        connect(os.environ["CUSTODY_URL"], os.environ["CUSTODY_KEY"]),
        os.environ["CUSTODY_FUNDED_WALLET"],
        os.environ["CUSTODY_ASSET"],
    )
