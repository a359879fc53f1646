"""`custody audit`: seal the books, re-derive what was sealed, prove it, anchor it, export it, show what is owed."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from cli import anchors, signer_audit
from cli.platform import FAILED, run_on_platform
from custody import bootstrap, settings
from custody.audit import service as audit
from custody.bootstrap import App
from custody.identity import service as identity
from custody.kernel.errors import CustodyError, NotFound, Unavailable
from custody.kernel.ids import TenantId, new_uuid, parse_id
from custody.seals import disclosure, execution, export, service
from custody.seals.errors import CheckpointUntrusted, HistoryAltered, NotSealed
from custody.seals.model import Verified
from custody.signing.checkpoints import message_of

ACTOR = "custody audit"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Mount the command."""
    parser = subparsers.add_parser("audit", help="seal, verify, prove and export the books")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verify = verbs.add_parser(
        "verify", help="re-derive every hash, root, seal and signature, and read anchors back"
    )
    verify.add_argument(
        "--export", type=Path, metavar="DIR", help="check the files of an export instead of the database"
    )
    verify.add_argument(
        "--key",
        action="append",
        type=bytes.fromhex,
        metavar="HEX",
        help="a checkpoint key to trust; else the signer is asked",
    )
    verify.set_defaults(run=lambda given: _run(verify_all(given.export, given.key)))
    seal = verbs.add_parser("seal", help="seal what is booked and have it signed, now")
    seal.add_argument(
        "--new-key", action="store_true", help="sign by a fresh key, after a loss of sealed rows was accepted"
    )
    seal.set_defaults(run=lambda given: _run(seal_all(fresh=given.new_key)))
    prove = verbs.add_parser(
        "prove", help="print the proof that a transfer is sealed (docs/verify_transfer.py checks it)"
    )
    prove.add_argument("transfer", metavar="trf_…")
    prove.add_argument("--upto", type=int, metavar="SEQUENCE", help="prove it under this later checkpoint")
    prove.set_defaults(run=lambda given: _run(prove_transfer(given.transfer, given.upto)))
    out = verbs.add_parser("export", help="write sealed history as JSON lines; prints a cursor to go on from")
    out.add_argument("--out", type=Path, required=True, metavar="DIR")
    out.add_argument("--after", metavar="CURSOR", help="go on after this cursor; else after what DIR holds")
    out.set_defaults(run=lambda given: _run(export_all(given.out, given.after)))
    owed = verbs.add_parser(
        "liabilities", help="publish what is owed to all wallets at the newest checkpoint"
    )
    owed.add_argument("--wallet", metavar="wal_…", help="print this wallet's own proof instead")
    owed.set_defaults(run=lambda given: _run(show_liabilities(given.wallet)))
    _add_anchors(verbs)
    signer_audit.add_verbs(verbs)


def _add_anchors(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    anchor = verbs.add_parser(
        "anchor", help="have the newest checkpoint's hash written to a Stellar chain, once approvers agree"
    )
    anchor.add_argument("--tenant", type=int, help="only the tenant of this number")
    anchor.add_argument(
        "--chain", metavar="stellar:…", help="needed where several Stellar chains are configured"
    )
    anchor.set_defaults(run=lambda given: _run(anchors.anchor_all(given.tenant, given.chain)))
    listed = verbs.add_parser("anchors", help="list anchors with their state, transaction and ledger")
    listed.add_argument("--tenant", type=int, help="only the tenant of this number")
    listed.set_defaults(run=lambda given: _run(anchors.show_all(given.tenant)))


def _run(work: Awaitable[int]) -> int:
    return run_on_platform(_named(work), "audit")


async def _named(work: Awaitable[int]) -> int:
    """The work's exit code; 1 with the row's name when history was altered."""
    try:
        return await work
    except CustodyError as error:
        print(f"custody audit: {error}", file=sys.stderr)
        return 1 if isinstance(error, HistoryAltered | CheckpointUntrusted) else FAILED


async def _each_tenant(work: Callable[[App, TenantId], Awaitable[bool]]) -> int:
    """Do the work for every tenant; 1 when it says False for any."""
    app = bootstrap.build(settings.load())
    try:
        async with app.db.read(None) as session:
            tenants = await identity.list_tenants(session)
        return 0 if all([await work(app, tenant) for tenant in tenants]) else 1
    finally:
        await app.aclose()


async def verify_all(folder: Path | None, keys: list[bytes] | None) -> int:
    """0 when everything verifies; 1 names the tenant and the first bad row of each chain."""
    trusted = None if keys is None else frozenset(keys)
    if folder is not None:
        found = await asyncio.to_thread(export.verify_export, folder, message_of, trusted)
        for tenant, verified in found.items():
            _print_verified(tenant, verified, vouched=trusted is not None)
        return 0

    async def verify_tenant(app: App, tenant: TenantId) -> bool:
        held = [await _verify_audit(app, tenant), await _verify_ledger(app, tenant, trusted)]
        return all([*held, await anchors.verify_tenant(app, tenant)])

    return await _each_tenant(verify_tenant)


async def _verify_audit(app: App, tenant: TenantId) -> bool:
    async with app.db.read(tenant) as session:
        try:
            print(f"tenant {tenant}: {await audit.verify(session)} audit entries verify")
        except audit.AuditChainBroken as error:
            print(f"tenant {tenant}: {error}", file=sys.stderr)
            return False
    return True


async def _verify_ledger(app: App, tenant: TenantId, trusted: frozenset[bytes] | None) -> bool:
    if trusted is None:
        try:
            trusted = await execution.trusted_keys(app.db, app.signer, tenant)
        except Unavailable as error:
            print(f"tenant {tenant}: nobody vouches for the checkpoint keys: {error}", file=sys.stderr)
    try:
        async with app.db.read(tenant) as session:
            verified = await service.verify(session, message_of, trusted)
            archives = await service.archives(session)
    except (HistoryAltered, CheckpointUntrusted) as error:
        print(f"tenant {tenant}: {error}", file=sys.stderr)
        return False
    _print_verified(tenant, verified, vouched=trusted is not None)
    for archive in archives:
        print(
            f"tenant {tenant}: {archive.transfers} transfers of {archive.month:%Y-%m} were archived to {archive.directory}:"
            " check them there with custody ledger archive --check DIR"
        )
    return True


def _print_verified(tenant: TenantId, verified: Verified, *, vouched: bool) -> None:
    print(
        f"tenant {tenant}: {verified.transfers} transfers in {verified.batches} batches ({verified.unsealed} not sealed yet),"
        f" {verified.seals} seals and {verified.checkpoints} signatures verify"
    )
    if verified.archived:
        print(
            f"tenant {tenant}: {verified.archived} of these batches are archived: only their recorded roots were used"
        )
    for key in verified.keys:
        print(
            f"tenant {tenant}: signed by {key.hex()}"
            + ("" if vouched else "; compare it with the key you know")
        )


async def seal_all(*, fresh: bool) -> int:
    """Seal and sign for every tenant."""

    async def seal_tenant(app: App, tenant: TenantId) -> bool:
        key_id = await app.signer.checkpoint_key(request_id=new_uuid(), tenant=tenant) if fresh else None
        made = await execution.seal_and_sign(app.db, app.signer, tenant, key_id)
        print(f"tenant {tenant}: {sum(seal.batches for seal in made)} batches in {len(made)} new seals")
        return True

    return await _each_tenant(seal_tenant)


async def prove_transfer(shown: str, upto: int | None) -> int:
    """Print the proof of one transfer, whichever tenant's it is."""
    transfer_id = parse_id("trf", shown)
    app = bootstrap.build(settings.load())
    try:
        async with app.db.read(None) as session:
            tenants = await identity.list_tenants(session)
        for tenant in tenants:
            async with app.db.read(tenant) as session:
                try:
                    proof = await disclosure.prove(session, transfer_id, upto)
                except NotFound:
                    continue
            print(json.dumps(proof, indent=1))
            return 0
    finally:
        await app.aclose()
    print(f"no tenant has a transfer {shown}", file=sys.stderr)
    return 1


async def export_all(folder: Path, after: str | None) -> int:
    """Write every tenant's sealed history; the cursor is `tenant:sequence,…` and is kept in the directory as well."""
    cursor = {} if after is None else _read_cursor(after)

    async def export_tenant(app: App, tenant: TenantId) -> bool:
        begin = export.exported_to(folder, tenant) if after is None else cursor.get(tenant, 0)
        async with app.db.read(tenant) as session:
            cursor[tenant] = await export.export(session, folder, begin)
        return True

    code = await _each_tenant(export_tenant)
    print(",".join(f"{tenant}:{sequence}" for tenant, sequence in sorted(cursor.items())))
    return code


def _read_cursor(text: str) -> dict[TenantId, int]:
    try:
        pairs = [part.split(":") for part in text.split(",") if part]
        return {TenantId(int(tenant)): int(sequence) for tenant, sequence in pairs}
    except ValueError:
        raise SystemExit(f"custody audit export: {text} is not a cursor, which looks like 1:20,2:7") from None


async def show_liabilities(shown: str | None) -> int:
    """Publish totals and roots of every tenant, or print one wallet's own proofs."""
    wallet = None if shown is None else parse_id("wal", shown)
    answers: list[object] = []

    async def show_tenant(app: App, tenant: TenantId) -> bool:
        async with app.db.unit_of_work(tenant) as uow:
            try:
                owed = await disclosure.publish_liabilities(uow, ACTOR)
            except NotSealed:
                return True
        if wallet is None:
            answers.extend(
                {
                    "tenant": tenant,
                    "asset": one.asset.text,
                    "checkpoint": one.sequence,
                    "total": str(one.tree.root.total),
                    "root": one.tree.root.hash.hex(),
                    "wallets": one.tree.wallets,
                }
                for one in owed
            )
            return True
        with contextlib.suppress(NotFound):
            answers.extend(disclosure.prove_liability(owed, wallet))
        return True

    code = await _each_tenant(show_tenant)
    if wallet is not None and not answers:
        print(f"nothing is owed to {shown} at the newest checkpoint", file=sys.stderr)
        return 1
    print(json.dumps(answers, indent=1))
    return code
