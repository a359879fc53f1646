"""Vaults: our keys in the HSM and the accounts on chain that they control."""

from __future__ import annotations

from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Depends, Path
from pydantic import Field
from starlette.responses import Response

from api.auth import Caller, requires
from api.idempotency import Command, commands
from api.rest.shapes import (
    COMMAND_PROBLEMS,
    READ_PROBLEMS,
    AssetText,
    Empty,
    In,
    Out,
    PageOut,
    load_asset,
    parse_chain,
    problems,
)
from api.rest.withdrawal_shapes import WithdrawalOut, show_withdrawal
from api.strict_json import StrictRoute
from custody.chains.errors import UnsupportedChain
from custody.chains.stellar.rpc import StellarRpc
from custody.db.session import UnitOfWork
from custody.deposits import execution as deposits
from custody.kernel.errors import Unavailable
from custody.kernel.ids import VaultId, WithdrawalId, new_uuid, parse_id, show_id
from custody.wallets import service as wallets
from custody.wallets.model import Vault
from custody.withdrawals import service as withdrawals

router = APIRouter(prefix="/v1/vaults", tags=["vaults"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("vaults:read"))]
Operate = Annotated[Command, Depends(commands("vaults:write"))]

VaultPath = Annotated[str, Path(max_length=40, examples=["vlt_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])]


class VaultIn(In):
    """On which chain a vault is wanted."""

    chain: str = Field(max_length=64, examples=["stellar:devnet", "eip155:31337"])
    purpose: Literal["omnibus", "warm", "cold"] = Field(
        default="omnibus",
        description="`omnibus` is hot: it pays withdrawals. The policy's rules speak of `warm` and `cold` vaults by these names.",
    )


class VaultOut(Out):
    """A vault."""

    id: str = Field(examples=["vlt_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    chain: str = Field(examples=["stellar:devnet"])
    purpose: str = Field(
        description="`omnibus`, `warm`, `cold`; `deposit` for one wallet's own address; `channels` and `fees` help Stellar "
        "payments, `gas` pays for sweeps on EVM."
    )
    wallet_id: str | None
    key_id: str = Field(description="The key's id in the HSM, which it never leaves. Hexadecimal.")
    account: str = Field(description="The account or address that the key controls.")


class TrustlineIn(In):
    """The credit asset that a Stellar vault shall be able to hold."""

    asset: AssetText


class MemoRequiredOut(Out):
    """What the chain says of a Stellar vault's account."""

    vault_id: str
    required: bool | None = Field(
        description="Whether its data entry `config.memo_required` is `1` (SEP-29); null while the chain's node does not answer."
    )


@router.post("", status_code=201, response_model=VaultOut, responses=COMMAND_PROBLEMS)
async def create_vault(body: VaultIn, command: Operate) -> Response:
    """Create a hot, warm or cold vault: a key is born in the HSM and its account is known from then on."""
    chain = parse_chain(command.app.clients, body.chain)
    recorded = await command.recorded()
    if recorded is not None:
        return recorded
    vault = await deposits.create_vault(
        command.app.db,
        command.app.signer,
        command.principal,
        chain,
        command.derived_id("vault"),
        body.purpose,
    )

    async def effect(_: UnitOfWork) -> VaultOut:
        return show_vault(vault)

    return await command.run(effect)


@router.get("", responses=READ_PROBLEMS)
async def list_vaults(caller: Reader) -> PageOut[VaultOut]:
    """All vaults, deposit vaults included."""
    async with caller.read() as session:
        found = await wallets.list_vaults(session)
    return PageOut(data=[show_vault(vault) for vault in found], next_cursor=None)


@router.post(
    "/{vault_id}/trustlines", status_code=201, response_model=WithdrawalOut, responses=COMMAND_PROBLEMS
)
async def open_trustline(vault_id: VaultPath, body: TrustlineIn, command: Operate) -> Response:
    """Ask for a trustline. It is an operation of the vault's key and goes through approval like a withdrawal."""
    wanted = VaultId(parse_id("vlt", vault_id))
    operation_id = WithdrawalId(new_uuid())

    async def effect(uow: UnitOfWork) -> WithdrawalOut:
        asset = await load_asset(uow, body.asset)
        asked = await withdrawals.request_trustline(
            uow,
            command.principal,
            operation_id,
            wanted,
            asset.id,
            settings=command.app.settings,
            clock=command.app.clock,
        )
        return await show_withdrawal(uow, asked)

    return await command.run(effect)


@router.post(
    "/{vault_id}/memo-required", status_code=201, response_model=WithdrawalOut, responses=COMMAND_PROBLEMS
)
async def require_memo(vault_id: VaultPath, command: Operate, _: Empty | None = None) -> Response:
    """Have the account tell senders that it wants a memo (SEP-29). Done by the vault's key, approved like a withdrawal."""
    wanted = VaultId(parse_id("vlt", vault_id))
    operation_id = WithdrawalId(new_uuid())

    async def effect(uow: UnitOfWork) -> WithdrawalOut:
        asked = await withdrawals.request_memo_required(
            uow,
            command.principal,
            operation_id,
            wanted,
            settings=command.app.settings,
            clock=command.app.clock,
        )
        return await show_withdrawal(uow, asked)

    return await command.run(effect)


@router.get("/{vault_id}/memo-required", responses=problems(400, 404))
async def read_memo_required(vault_id: VaultPath, caller: Reader) -> MemoRequiredOut:
    """Whether the account tells senders that it wants a memo, as the chain has it now."""
    async with caller.read() as session:
        vault = await wallets.get_vault(session, VaultId(parse_id("vlt", vault_id)))
    client = caller.app.clients.get(vault.chain)
    if not isinstance(client, StellarRpc):
        raise UnsupportedChain(chain=vault.chain)
    try:
        required: bool | None = await client.requires_memo(vault.account)
    except Unavailable as error:
        structlog.get_logger().warning("vault.memo_required_unknown", reason=error.code)
        required = None
    return MemoRequiredOut(vault_id=show_id("vlt", vault.id), required=required)


def show_vault(vault: Vault) -> VaultOut:
    """A vault as responses carry it."""
    return VaultOut(
        id=show_id("vlt", vault.id),
        chain=vault.chain,
        purpose=vault.purpose,
        wallet_id=None if vault.wallet_id is None else show_id("wal", vault.wallet_id),
        key_id=vault.key_id,
        account=vault.account,
    )
