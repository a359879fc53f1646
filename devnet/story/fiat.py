"""Act 7: euros arrive at the bank, one payout is paid, one comes back."""

from __future__ import annotations

from devnet.bank.ibans import NORMAL, RETURNED, sandbox_iban
from devnet.story.cast import Cast
from devnet.story.client import Json, until
from devnet.story.opening import holds
from devnet.story.outside import Outside

EUR = 100
OUR_IBAN = sandbox_iban(4200)
PAID_IBAN = sandbox_iban(NORMAL)
RETURNED_IBAN = sandbox_iban(RETURNED)


async def pay_in_and_out(cast: Cast, outside: Outside) -> None:
    """A stranger pays Ann 300 EUR by bank; she pays out 120.50 EUR, and 50 EUR that the beneficiary's bank sends back."""
    await outside.open_bank_account(OUR_IBAN)
    account = await cast.operator.post(
        "/v1/bank-accounts",
        {"rail": "sandbox", "iban": OUR_IBAN, "asset": cast.names["EUR"], "name": "Main EUR account"},
        key="bank-account",
    )
    cast.names["bank"] = account["id"]
    reference = await cast.app.post(f"/v1/wallets/{cast.names['ann']}/payment-reference", key="reference-ann")
    await outside.pay_euros(OUR_IBAN, 300 * EUR, str(reference["reference"]))
    await holds(cast, "ann", "EUR", 300 * EUR)
    paid = await pay_out(cast, PAID_IBAN, 12050, key="paid")
    returned = await pay_out(cast, RETURNED_IBAN, 50 * EUR, key="returned")
    await payout_reaches(cast, paid["id"], "settled")
    await payout_reaches(cast, returned["id"], "returned")
    await holds(cast, "ann", "EUR", 300 * EUR - 12050)


async def pay_out(cast: Cast, iban: str, amount: int, *, key: str) -> Json:
    """Request a payout."""
    return await cast.app.post(
        "/v1/payouts",
        {
            "wallet_id": cast.names["ann"],
            "bank_account_id": cast.names["bank"],
            "asset": cast.names["EUR"],
            "amount": str(amount),
            "beneficiary": {"iban": iban, "name": "Grace Hopper"},
            "remittance": "Invoice 7421",
        },
        key=f"payout-{key}",
    )


async def payout_reaches(cast: Cast, payout_id: str, state: str) -> None:
    """Wait until a payout is in this state."""

    async def look() -> Json:
        return await cast.app.get(f"/v1/payouts/{payout_id}")

    await until(f"payout {payout_id} to be {state}", look, lambda found: found["state"] == state)
