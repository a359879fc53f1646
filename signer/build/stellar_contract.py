"""The call of an asset's own contract that pays to another contract, and the footprint that this payment touches.

Nothing of it comes from a simulation but numbers: how much it may compute, read, write and cost. The contract, the arguments,
the authorization and every ledger entry follow from the intent. Source: CAP-46-3, CAP-46-5, CAP-46-6, CAP-46-11.
"""

import hashlib

from stellar_sdk import Address, InvokeHostFunction, scval, xdr

from signer.build.stellar_operations import asset_of_text, raw_asset, read_asset, read_key
from signer.protocol.fields import payload_of
from signer.protocol.intent import StellarContractPayment
from signer.protocol.messages import ContractBinding
from signer.refusal import Refusal

FUNCTION = "transfer"
INCLUSION_MIN = 100
"""Stroops of the fee that are not for resources: the least bid of one operation."""
RESOURCE_MAX = 2**32 - 1

_PERSISTENT = xdr.ContractDataDurability.PERSISTENT
_FROM_ASSET = (8).to_bytes(4, "big"), (1).to_bytes(4, "big")
"""ENVELOPE_TYPE_CONTRACT_ID and CONTRACT_ID_PREIMAGE_FROM_ASSET."""


def check_resources(binding: ContractBinding) -> None:
    """Raise Refusal("bad_binding") unless the declared resources are in range and paid for inside the frame's fee."""
    counted = (binding.instructions, binding.disk_read_bytes, binding.write_bytes)
    within = all(0 <= number <= RESOURCE_MAX for number in counted)
    if not within or not 1 <= binding.resource_fee <= binding.frame.fee - INCLUSION_MIN:
        raise Refusal("bad_binding", "the resources or their fee are outside what the intent allows")


def check_destination(intent: StellarContractPayment) -> None:
    """Raise Refusal("bad_destination") when the contract is the asset's own, which gives nothing back."""
    if payload_of(intent.destination) == contract_of(intent.asset, bytes.fromhex(intent.network_id)):
        raise Refusal("bad_destination", "the destination is the asset's own contract")


def call_of(intent: StellarContractPayment, passphrase: str) -> InvokeHostFunction:
    """Return the operation: one call, authorized by the transaction's source account and by nothing else."""
    contract = Address(asset_of_text(intent.asset).contract_id(passphrase))
    call = xdr.InvokeContractArgs(
        contract_address=contract.to_xdr_sc_address(),
        function_name=xdr.SCSymbol(FUNCTION.encode("ascii")),
        args=[
            scval.to_address(intent.source),
            scval.to_address(intent.destination),
            scval.to_int128(intent.amount),
        ],
    )
    function = xdr.SorobanAuthorizedFunction(
        xdr.SorobanAuthorizedFunctionType.SOROBAN_AUTHORIZED_FUNCTION_TYPE_CONTRACT_FN, contract_fn=call
    )
    entry = xdr.SorobanAuthorizationEntry(
        credentials=xdr.SorobanCredentials(xdr.SorobanCredentialsType.SOROBAN_CREDENTIALS_SOURCE_ACCOUNT),
        root_invocation=xdr.SorobanAuthorizedInvocation(function=function, sub_invocations=[]),
    )
    invoke = xdr.HostFunction(xdr.HostFunctionType.HOST_FUNCTION_TYPE_INVOKE_CONTRACT, invoke_contract=call)
    return InvokeHostFunction(invoke, [entry])


def resources_of(
    intent: StellarContractPayment, binding: ContractBinding, passphrase: str
) -> xdr.SorobanTransactionData:
    """Return the footprint and the bound numbers.

    Read: the contract's instance and, of a credit asset, its issuer, whose flags decide about a new balance. Written: what the
    source holds (its account, or its trustline) and the destination's balance.
    """
    asset = asset_of_text(intent.asset)
    contract = Address(asset.contract_id(passphrase)).to_xdr_sc_address()
    source = Address(intent.source).to_xdr_sc_address().account_id
    if source is None:
        raise Refusal("bad_request", "the source is not an account")
    instance = xdr.SCVal(xdr.SCValType.SCV_LEDGER_KEY_CONTRACT_INSTANCE)
    balance = scval.to_vec([scval.to_symbol("Balance"), scval.to_address(intent.destination)])
    read, write = [_contract_data(contract, instance)], [_contract_data(contract, balance)]
    if intent.asset == "native":
        write.insert(0, _account(source))
    else:
        issuer = Address(intent.asset.partition(":")[2]).to_xdr_sc_address().account_id
        if issuer is None:
            raise Refusal("bad_request", "the issuer is not an account")
        read.insert(0, _account(issuer))
        line = xdr.LedgerKeyTrustLine(source, asset.to_trust_line_asset_xdr_object())
        write.append(xdr.LedgerKey(xdr.LedgerEntryType.TRUSTLINE, trust_line=line))
    footprint = xdr.LedgerFootprint(read_only=read, read_write=write)
    resources = xdr.SorobanResources(
        footprint=footprint,
        instructions=xdr.Uint32(binding.instructions),
        disk_read_bytes=xdr.Uint32(binding.disk_read_bytes),
        write_bytes=xdr.Uint32(binding.write_bytes),
    )
    return xdr.SorobanTransactionData(
        ext=xdr.SorobanTransactionDataExt(0),
        resources=resources,
        resource_fee=xdr.Int64(binding.resource_fee),
    )


def _account(account: xdr.AccountID) -> xdr.LedgerKey:
    return xdr.LedgerKey(xdr.LedgerEntryType.ACCOUNT, account=xdr.LedgerKeyAccount(account))


def _contract_data(contract: xdr.SCAddress, key: xdr.SCVal) -> xdr.LedgerKey:
    data = xdr.LedgerKeyContractData(contract, key, _PERSISTENT)
    return xdr.LedgerKey(xdr.LedgerEntryType.CONTRACT_DATA, contract_data=data)


def contract_of(asset: str, network_id: bytes) -> bytes:
    """Return the 32 bytes of the id of an asset's own contract, computed without the SDK. Source: CAP-46-2."""
    raw = raw_asset(asset)
    kind = 0 if not raw else 1 if len(raw[0]) == 4 else 2
    body = kind.to_bytes(4, "big")
    if raw:
        body += raw[0] + bytes(4) + raw[1]
    envelope, preimage = _FROM_ASSET
    return hashlib.sha256(envelope + network_id + preimage + body).digest()


def same_call(body: xdr.OperationBody, intent: StellarContractPayment, network_id: bytes) -> bool:
    """Tell whether the operation is the call of the intent, read from raw XDR."""
    invoke = body.invoke_host_function_op
    if invoke is None or invoke.host_function.invoke_contract is None or len(invoke.auth) != 1:
        return False
    (entry,) = invoke.auth
    authorized = entry.root_invocation
    if (
        entry.credentials.type is not xdr.SorobanCredentialsType.SOROBAN_CREDENTIALS_SOURCE_ACCOUNT
        or authorized.sub_invocations
        or authorized.function.contract_fn is None
    ):
        return False
    calls = (invoke.host_function.invoke_contract, authorized.function.contract_fn)
    expected = (
        ("contract", contract_of(intent.asset, network_id)),
        FUNCTION.encode("ascii"),
        (
            ("account", payload_of(intent.source)),
            ("contract", payload_of(intent.destination)),
            intent.amount,
        ),
    )
    return all(_read_call(call) == expected for call in calls)


def same_resources(
    data: xdr.SorobanTransactionData | None,
    intent: StellarContractPayment,
    binding: ContractBinding,
    network_id: bytes,
) -> bool:
    """Tell whether footprint and numbers are those of intent and binding, read from raw XDR."""
    if data is None or data.ext.v != 0:
        return False
    resources = data.resources
    numbers = (
        resources.instructions.uint32,
        resources.disk_read_bytes.uint32,
        resources.write_bytes.uint32,
        data.resource_fee.int64,
    )
    bound = (binding.instructions, binding.disk_read_bytes, binding.write_bytes, binding.resource_fee)
    contract, source = contract_of(intent.asset, network_id), payload_of(intent.source)
    instance: object = ("data", contract, "instance")
    balance: object = ("data", contract, ("Balance", ("contract", payload_of(intent.destination))))
    read, write = [instance], [("account", source), balance]
    if intent.asset != "native":
        read.insert(0, ("account", payload_of(intent.asset.partition(":")[2])))
        write = [balance, ("trustline", source, raw_asset(intent.asset))]
    footprint = resources.footprint
    return (
        numbers == bound
        and [_read_entry(key) for key in footprint.read_only] == read
        and [_read_entry(key) for key in footprint.read_write] == write
    )


def _read_call(call: xdr.InvokeContractArgs) -> object:
    arguments = tuple(_read_value(value) for value in call.args)
    return _read_address(call.contract_address), call.function_name.sc_symbol, arguments


def _read_value(value: xdr.SCVal) -> object:
    if value.address is not None:
        return _read_address(value.address)
    if value.i128 is not None:
        return (value.i128.hi.int64 << 64) | value.i128.lo.uint64
    if value.sym is not None:
        return value.sym.sc_symbol.decode("ascii")
    if value.vec is not None:
        return tuple(_read_value(item) for item in value.vec.sc_vec)
    return "instance" if value.type is xdr.SCValType.SCV_LEDGER_KEY_CONTRACT_INSTANCE else None


def _read_address(address: xdr.SCAddress) -> tuple[str, bytes]:
    if address.account_id is not None:
        return "account", read_key(address.account_id)
    contract = address.contract_id
    return ("", b"") if contract is None else ("contract", contract.contract_id.hash)


def _read_entry(key: xdr.LedgerKey) -> object:
    if key.account is not None:
        return "account", read_key(key.account.account_id)
    if key.trust_line is not None:
        return "trustline", read_key(key.trust_line.account_id), read_asset(key.trust_line.asset)
    data = key.contract_data
    if data is None or data.durability is not _PERSISTENT:
        return None
    where = _read_address(data.contract)
    return ("data", where[1], _read_value(data.key)) if where[0] == "contract" else None
