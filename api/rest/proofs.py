"""Proofs of liabilities: what was published for everybody, and each wallet's own proof under it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field

from api.auth import Caller, requires
from api.rest.shapes import READ_PROBLEMS, AtomicText, Out, PageOut
from api.rest.wallets import WalletPath
from api.strict_json import StrictRoute
from custody.kernel.ids import WalletId, parse_id
from custody.seals import publication
from custody.seals.publication import OwnProof, Published
from custody.wallets import service as wallets

router = APIRouter(tags=["proofs"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("proofs:read"))]


class LiabilitiesOut(Out):
    """What is owed to all wallets in one asset at the checkpoint that was published last."""

    asset: str = Field(examples=["stellar:devnet/native"])
    checkpoint: int = Field(description="Number of the signed seal up to which transfers count.")
    total: AtomicText
    root: str = Field(
        description="What every wallet's proof leads to; hand it on apart from proofs. Hexadecimal."
    )


class LiabilityProofOut(Out):
    """A wallet's own proof in one asset. It names no other wallet and shows no other balance."""

    asset: str = Field(examples=["stellar:devnet/native"])
    checkpoint: int = Field(description="Number of the signed seal up to which transfers count.")
    balance: AtomicText
    root: str = Field(description="What was published for everybody. Hexadecimal.")
    proof: dict[str, Any] = Field(description="What `docs/verify_balance.py` checks against the root.")


@router.get("/v1/liabilities", responses=READ_PROBLEMS)
async def list_liabilities(caller: Reader) -> PageOut[LiabilitiesOut]:
    """Totals and roots as they were published. `not_sealed` while nothing is."""
    async with caller.read() as session:
        found = await publication.list_published(session)
    return PageOut(data=[_show_published(each) for each in found], next_cursor=None)


@router.get("/v1/wallets/{wallet_id}/liability-proofs", responses=READ_PROBLEMS)
async def list_liability_proofs(wallet_id: WalletPath, caller: Reader) -> PageOut[LiabilityProofOut]:
    """A wallet's own proofs, one per asset in which something was owed to it. `not_sealed` while nothing is published."""
    wanted = WalletId(parse_id("wal", wallet_id))
    async with caller.read() as session:
        await wallets.get_wallet(session, wanted)
        found = await publication.list_own_proofs(session, wanted)
    return PageOut(data=[_show_own(each) for each in found], next_cursor=None)


def _show_published(found: Published) -> LiabilitiesOut:
    return LiabilitiesOut(
        asset=found.asset.text, checkpoint=found.sequence, total=str(found.total), root=found.root.hex()
    )


def _show_own(found: OwnProof) -> LiabilityProofOut:
    return LiabilityProofOut(
        asset=found.asset.text,
        checkpoint=found.sequence,
        balance=str(found.balance),
        root=found.root.hex(),
        proof=found.document,
    )
