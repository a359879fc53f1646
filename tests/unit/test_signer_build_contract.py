"""The call of an asset's own contract: nothing rides along, and what it may cost is capped by the intent."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from stellar_sdk import (
    Asset,
    Keypair,
    xdr,
)

from signer.build import assembly, stellar
from signer.protocol.messages import ContractBinding
from signer.refusal import Refusal
from tests.fakes.signer_bytes import KEY, NETWORKS, USDC, build, make
from tests.fakes.signer_hsm import START
from tests.fakes.signer_kinds import CREDIT, bind_kind
from tests.fakes.signer_people import PASSPHRASE


def check(tx: xdr.Transaction, intent: Any, binding: Any) -> None:
    stellar._check_fields(tx, intent, binding)


# --- contract calls -------------------------------------------------------------------------------------------------------


def _call(tx: xdr.Transaction) -> xdr.InvokeHostFunctionOp:
    invoke = tx.operations[0].body.invoke_host_function_op
    assert invoke is not None
    return invoke


def _sub_invocation(tx: xdr.Transaction) -> None:
    root = _call(tx).auth[0].root_invocation
    root.sub_invocations = [xdr.SorobanAuthorizedInvocation(root.function, [])]


def _second_authorization(tx: xdr.Transaction) -> None:
    _call(tx).auth.append(_call(tx).auth[0])


def _no_authorization(tx: xdr.Transaction) -> None:
    _call(tx).auth = []


def _other_credentials(tx: xdr.Transaction) -> None:
    _call(tx).auth[0].credentials = xdr.SorobanCredentials(
        xdr.SorobanCredentialsType.SOROBAN_CREDENTIALS_ADDRESS,
        address=xdr.SorobanAddressCredentials(
            xdr.SCAddress(
                xdr.SCAddressType.SC_ADDRESS_TYPE_ACCOUNT, account_id=Keypair.from_public_key(KEY.address).xdr_account_id()
            ),
            xdr.Int64(1), xdr.Uint32(1), xdr.SCVal(xdr.SCValType.SCV_VOID),
        ),
    )  # fmt: skip


def _other_function(tx: xdr.Transaction) -> None:
    call = _call(tx).host_function.invoke_contract
    assert call is not None
    call.function_name = xdr.SCSymbol(b"approve")


def _other_authorized_function(tx: xdr.Transaction) -> None:
    call = _call(tx).auth[0].root_invocation.function.contract_fn
    assert call is not None
    call.function_name = xdr.SCSymbol(b"approve")


def _more_arguments(tx: xdr.Transaction) -> None:
    call = _call(tx).host_function.invoke_contract
    assert call is not None
    call.args.append(call.args[0])


def _data(tx: xdr.Transaction) -> xdr.SorobanTransactionData:
    assert tx.ext.soroban_data is not None
    return tx.ext.soroban_data


def _written_instance(tx: xdr.Transaction) -> None:
    footprint = _data(tx).resources.footprint
    footprint.read_write = [*footprint.read_write, *footprint.read_only]


def _read_less(tx: xdr.Transaction) -> None:
    _data(tx).resources.footprint.read_only.pop()


def _temporary_entry(tx: xdr.Transaction) -> None:
    entry = _data(tx).resources.footprint.read_only[-1].contract_data
    assert entry is not None
    entry.durability = xdr.ContractDataDurability.TEMPORARY


def _archived_entries(tx: xdr.Transaction) -> None:
    _data(tx).ext = xdr.SorobanTransactionDataExt(1, xdr.SorobanResourcesExtV0([xdr.Uint32(0)]))


def _more_fee(tx: xdr.Transaction) -> None:
    _data(tx).resource_fee = xdr.Int64(901)


def _no_resources(tx: xdr.Transaction) -> None:
    tx.ext = xdr.TransactionExt(0)


@pytest.mark.parametrize(
    "spoil",
    [
        _sub_invocation, _second_authorization, _no_authorization, _other_credentials, _other_function,
        _other_authorized_function, _more_arguments, _written_instance, _read_less, _temporary_entry, _archived_entries,
        _more_fee, _no_resources,
    ],
)  # fmt: skip
def test_a_call_with_anything_else_in_it_is_refused(spoil: Callable[[xdr.Transaction], None]) -> None:
    intent = make("stellar_contract_payment")
    unsigned, binding = build(intent)
    tx = stellar._transaction_of(unsigned, PASSPHRASE)
    check(tx, intent, binding)
    spoil(tx)
    with pytest.raises(Refusal):
        check(xdr.Transaction.from_xdr_bytes(tx.to_xdr_bytes()), intent, binding)


@pytest.mark.parametrize(
    "changes",
    [
        {"resource_fee": 901},
        {"resource_fee": 0},
        {"resource_fee": -1},
        {"instructions": 2**32},
        {"instructions": -1},
        {"disk_read_bytes": 2**32},
        {"write_bytes": -1},
    ],
)
def test_resources_are_capped_by_the_fee_of_the_intent(changes: dict[str, int]) -> None:
    intent = make("stellar_contract_payment")
    binding = bind_kind(intent, 5)
    assert isinstance(binding, ContractBinding)
    assert binding.resource_fee == intent.max_fee - 100
    with pytest.raises(Refusal, match="bad_binding"):
        assembly.build_unsigned(intent, replace(binding, **changes), None, NETWORKS, START)


@pytest.mark.parametrize("changes", [{"fee": 1001}, {"sequence": 0}, {"max_time": START}, {"max_time": 0}])
def test_the_frame_of_a_call_only_narrows(changes: dict[str, int]) -> None:
    intent = make("stellar_contract_payment")
    binding = bind_kind(intent, 5)
    assert isinstance(binding, ContractBinding)
    spoiled = replace(binding, frame=replace(binding.frame, **changes))
    with pytest.raises(Refusal, match="bad_binding"):
        assembly.build_unsigned(intent, spoiled, None, NETWORKS, START)


def test_the_assets_own_contract_is_no_destination() -> None:
    for asset, sdk in (("native", Asset.native()), (CREDIT, USDC)):
        intent = make("stellar_contract_payment", asset=asset, destination=sdk.contract_id(PASSPHRASE))
        with pytest.raises(Refusal, match="bad_destination"):
            build(intent)
