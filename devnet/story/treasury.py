"""Acts 1 and 8: when deposit addresses are swept, and that in the end all that is worth it lies in the omnibus vault."""

from __future__ import annotations

from devnet.config import EVM_CHAIN
from devnet.story.cast import Cast
from devnet.story.client import Json, until

ETH = 10**18
TUSD = 10**6
SWEPT = 1050 * TUSD
"""What strangers pay in tokens: to Ann, whose address has ether too, and to Bob, whose address has none."""


async def set_rules(cast: Cast) -> None:
    """Tokens from a hundred, ether from a tenth; and a gas vault that the omnibus vault fills."""
    for code, threshold, dust in (("TUSD", 10 * TUSD, TUSD), ("ETH", ETH // 10, ETH // 100)):
        body: Json = {
            "asset": cast.names[code],
            "threshold": str(threshold),
            "dust": str(dust),
            "fee_max": str(ETH // 10),
        }
        await cast.operator.post("/v1/treasury/rules", body, key=f"sweep-rule-{code}")
    levels: Json = {
        "purpose": "gas",
        "asset": cast.names["ETH"],
        "low": str(ETH // 20),
        "target": str(ETH // 10),
        "high": str(ETH),
    }
    await cast.operator.post("/v1/treasury/targets", levels, key="gas-target")


async def wait_for_sweeps(cast: Cast) -> None:
    """The tokens are in the omnibus vault, and of ether only dust is left at the addresses."""

    async def look() -> Json:
        return await cast.operator.get("/v1/treasury/status")

    def done(found: Json) -> bool:
        tokens = [
            each["posted"]["atomic"]
            for each in found["vaults"]
            if (each["purpose"], each["chain"]) == ("omnibus", EVM_CHAIN)
            and each["posted"]["asset"] == cast.names["TUSD"]
        ]
        left = {each["verdict"] for each in found["deposit_addresses"]}
        return tokens == [str(SWEPT)] and left <= {"dust"}

    await until("the deposit addresses to be swept", look, done)
