"""Bad input at every endpoint: a typed problem, and not one row more than before."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from custody.db.session import Database
from tests.integration.api_harness import (
    ETH,
    EUR,
    EVM,
    STELLAR,
    STRANGER,
    STRANGER_EVM,
    XLM,
    Harness,
    public_key_of,
    running,
)

NOBODY = "0" * 32
BAD_CHECKSUM = STRANGER[:-1] + ("A" if STRANGER[-1] != "A" else "B")
OVER_UINT256 = str(2**256)
Change = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One wrong request and the problem that it must meet."""

    path: str
    body: object
    status: int
    code: str
    pointer: str | None = None


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    async with running(database) as harness:
        yield harness


def withdrawals(api: Harness) -> list[Case]:
    """Wrong withdrawals."""

    def case(change: Change, status: int, code: str, pointer: str | None = None) -> Case:
        good: Change = {
            "wallet_id": api.tenant.wallet, "asset": XLM.text, "amount": "1", "destination": STRANGER,
        }  # fmt: skip
        return Case(path="/v1/withdrawals", body=good | change, status=status, code=code, pointer=pointer)

    return [
        *amounts(case),
        case({"asset": "stellar:devnet/NOPE:" + STRANGER}, 422, "unknown_asset"),
        case({"asset": "nonsense"}, 422, "malformed_asset_id", "/asset"),
        case({"asset": EUR.text}, 422, "unsupported_chain", "/destination"),
        case({"destination": STRANGER_EVM}, 422, "invalid_address", "/destination"),
        case({"destination": BAD_CHECKSUM}, 422, "invalid_address", "/destination"),
        case({"destination": ""}, 422, "invalid_input", "/destination"),
        case({"asset": ETH.text, "destination": STRANGER}, 422, "invalid_address", "/destination"),
        case(
            {"asset": ETH.text, "destination": STRANGER_EVM.replace("0F7", "0f7")},
            422,
            "invalid_address",
            "/destination",
        ),
        case({"memo": {"type": "id", "value": "-1"}}, 422, "invalid_memo"),
        case({"memo": {"type": "return", "value": "1"}}, 422, "invalid_input", "/memo/type"),
        case({"expires_in_s": 3601}, 422, "window_too_long", "/expires_in_s"),
        case({"expires_in_s": 0}, 422, "invalid_input", "/expires_in_s"),
        case({"wallet_id": api.other.wallet}, 404, "unknown_wallet"),
        case({"wallet_id": "wal_" + NOBODY}, 404, "unknown_wallet"),
        case({"wallet_id": api.tenant.customer}, 422, "malformed_id", "/wallet_id"),
        case({"wallet_id": api.tenant.empty_wallet}, 422, "insufficient_funds"),
        case({"extra": 1}, 422, "invalid_input", "/extra"),
        Case(path="/v1/withdrawals", body=[], status=422, code="invalid_input"),
        Case(path=f"/v1/withdrawals/wdr_{NOBODY}/cancel", body={}, status=404, code="unknown_withdrawal"),
        Case(path="/v1/withdrawals/wdr_1/cancel", body={}, status=422, code="malformed_id"),
        Case(path=f"/v1/withdrawals/wdr_{NOBODY}/cancel", body={"why": 1}, status=422, code="invalid_input"),
        Case(
            path=f"/v1/withdrawals/wdr_{NOBODY}/cancel-nonce", body={}, status=404, code="unknown_withdrawal"
        ),
        Case(
            path=f"/v1/withdrawals/wdr_{NOBODY}/concede",
            body={"tx_hash": f"0x{'ab' * 32}"},
            status=404,
            code="unknown_withdrawal",
        ),
        Case(
            path=f"/v1/withdrawals/wdr_{NOBODY}/concede",
            body={"tx_hash": f"0x{'AB' * 32}"},
            status=422,
            code="invalid_input",
            pointer="/tx_hash",
        ),
    ]


def amounts(case: Callable[..., Case]) -> list[Case]:
    """What no amount may be, whatever is done with it."""
    return [
        case({"amount": "-1"}, 422, "amount_not_positive", "/amount"),
        case({"amount": "0"}, 422, "amount_not_positive", "/amount"),
        case({"amount": "1.5"}, 422, "malformed_amount", "/amount"),
        case({"amount": "1e3"}, 422, "malformed_amount", "/amount"),
        case({"amount": "01"}, 422, "malformed_amount", "/amount"),
        case({"amount": " 1"}, 422, "malformed_amount", "/amount"),
        case({"amount": "١"}, 422, "malformed_amount", "/amount"),
        case({"amount": ""}, 422, "malformed_amount", "/amount"),
        case({"amount": OVER_UINT256}, 422, "amount_too_large", "/amount"),
        case({"amount": "9" * 81}, 422, "invalid_input", "/amount"),
        case({"amount": 1}, 422, "invalid_input", "/amount"),
        case({"amount": None}, 422, "invalid_input", "/amount"),
    ]


def transfers(api: Harness) -> list[Case]:
    """Wrong transfers."""

    def case(change: Change, status: int, code: str, pointer: str | None = None) -> Case:
        good: Change = {
            "from_wallet_id": api.tenant.wallet, "to_wallet_id": api.tenant.empty_wallet,
            "asset": XLM.text, "amount": "1",
        }  # fmt: skip
        return Case(path="/v1/transfers", body=good | change, status=status, code=code, pointer=pointer)

    return [
        *amounts(case),
        case({"asset": "fiat/USD"}, 422, "unknown_asset"),
        case({"to_wallet_id": api.other.wallet}, 404, "unknown_wallet"),
        case({"from_wallet_id": api.other.wallet}, 404, "unknown_wallet"),
        case({"to_wallet_id": api.tenant.wallet}, 422, "same_wallet"),
        case({"amount": str(2**256 - 1)}, 422, "insufficient_funds"),
        case(
            {"from_wallet_id": api.tenant.empty_wallet, "to_wallet_id": api.tenant.wallet},
            422,
            "insufficient_funds",
        ),
        case({"asset": ETH.text}, 422, "insufficient_funds"),
    ]


def payouts(api: Harness) -> list[Case]:
    """Wrong payouts."""
    iban = "FR1420041010050500013M02606"

    def case(change: Change, status: int, code: str, pointer: str | None = None) -> Case:
        good: Change = {
            "wallet_id": api.tenant.wallet, "bank_account_id": api.tenant.bank, "asset": EUR.text, "amount": "1",
            "beneficiary": {"iban": iban, "name": "Grace"}, "remittance": "Invoice",
        }  # fmt: skip
        return Case(path="/v1/payouts", body=good | change, status=status, code=code, pointer=pointer)

    return [
        *amounts(case),
        case({"asset": "fiat/USD"}, 422, "unknown_asset"),
        case({"asset": XLM.text}, 422, "wrong_currency"),
        case({"beneficiary": {"iban": iban[:-1] + "7", "name": "Grace"}}, 422, "invalid_iban"),
        case({"beneficiary": {"iban": iban, "name": "Gr\u0000ace"}}, 400, "malformed_json"),
        case({"beneficiary": {"iban": iban, "name": "Gr\u0007ace"}}, 422, "bad_payment_text"),
        case({"beneficiary": {"iban": iban}}, 422, "invalid_input", "/beneficiary/name"),
        case({"wallet_id": api.other.wallet}, 404, "unknown_wallet"),
        case({"bank_account_id": api.other.bank}, 404, "unknown_bank_account"),
        case({}, 422, "insufficient_funds"),
        Case(path=f"/v1/payouts/pay_{NOBODY}/cancel", body={}, status=404, code="unknown_payout"),
    ]


def others(api: Harness) -> list[Case]:
    """Wrong requests to everything else that changes something."""
    decision = {
        "approver": "alice", "public_key": public_key_of("alice"), "decision": "approve", "signature": "00" * 64
    }  # fmt: skip
    addresses = f"/v1/wallets/{api.tenant.wallet}/addresses"
    trust = f"/v1/vaults/{api.tenant.vault}/trustlines"
    rows: list[tuple[str, object, int, str, str | None]] = [
        ("/v1/customers", {"name": "", "external_ref": "x"}, 422, "invalid_input", "/name"),
        ("/v1/customers", {"name": "a\u0007", "external_ref": "x"}, 422, "bad_name", None),
        (
            "/v1/customers",
            {"name": "Eve", "external_ref": "ada-acme"},
            409,
            "customer_exists_different",
            None,
        ),
        ("/v1/customers", {"external_ref": "x"}, 422, "invalid_input", "/name"),
        ("/v1/wallets", {"customer_id": api.other.customer, "name": "x"}, 404, "unknown_customer", None),
        ("/v1/wallets", {"customer_id": "cus_1", "name": "x"}, 422, "malformed_id", "/customer_id"),
        (addresses, {"chain": "stellar:other"}, 422, "unsupported_chain", "/chain"),
        (addresses, {"chain": "bitcoin"}, 422, "malformed_asset_id", "/chain"),
        (f"/v1/wallets/{api.other.wallet}/addresses", {"chain": STELLAR}, 404, "unknown_wallet", None),
        (f"/v1/wallets/{api.other.wallet}/addresses", {"chain": EVM}, 404, "unknown_wallet", None),
        (f"/v1/wallets/{api.other.wallet}/payment-reference", {}, 404, "unknown_wallet", None),
        ("/v1/vaults", {"chain": "eip155:1"}, 422, "unsupported_chain", "/chain"),
        (trust, {"asset": XLM.text}, 422, "not_a_trustline", None),
        (trust, {"asset": ETH.text}, 422, "not_a_trustline", None),
        (f"/v1/vaults/{api.other.vault}/trustlines", {"asset": XLM.text}, 404, "unknown_vault", None),
        ("/v1/assets", {"id": XLM.text, "code": "XLM", "decimals": 6}, 409, "asset_exists_different", None),
        (
            "/v1/assets",
            {"id": "eip155:31337/erc20:0x12", "code": "T", "decimals": 6},
            422,
            "malformed_asset_id",
            "/id",
        ),
        (
            "/v1/assets",
            {"id": "stellar:devnet/sep41:C" + "A" * 55, "code": "T", "decimals": 7},
            422,
            "token_not_read",
            None,
        ),
        ("/v1/assets", {"id": "fiat/USD", "code": "USD", "decimals": 37}, 422, "invalid_input", "/decimals"),
        ("/v1/assets", {"id": "fiat/USD", "code": "USD", "decimals": "2"}, 422, "invalid_input", "/decimals"),
        (
            "/v1/bank-accounts",
            {"rail": "sandbox", "iban": "DE00512108001245126199", "asset": EUR.text, "name": "x"},
            422,
            "invalid_iban",
            None,
        ),
        (f"/v1/approvals/wdr_{NOBODY}/decisions", decision, 404, "unknown_withdrawal", None),
        (
            f"/v1/approvals/wdr_{NOBODY}/decisions",
            decision | {"signature": "zz"},
            422,
            "invalid_input",
            "/signature",
        ),
    ]
    return [
        Case(path=path, body=body, status=status, code=code, pointer=pointer)
        for path, body, status, code, pointer in rows
    ]


def cases(api: Harness) -> list[Case]:
    """Wrong decisions about cases, wrong rules and wrong memos of addresses."""
    nobody = f"/v1/cases/cas_{NOBODY}"
    assign, back = {"wallet_id": api.tenant.wallet}, {"destination": STRANGER, "memo": None}
    addresses = f"/v1/wallets/{api.tenant.wallet}/addresses"
    rule = {"asset": XLM.text, "minimum": "1", "dust": "0"}

    def memo(memo_type: str, value: str) -> Change:
        return {"chain": STELLAR, "memo": {"type": memo_type, "value": value}}

    rows: list[tuple[str, object, int, str, str | None]] = [
        (f"{nobody}/assign", assign, 404, "unknown_case", None),
        (f"{nobody}/assign", {}, 422, "invalid_input", "/wallet_id"),
        (f"{nobody}/assign", {"wallet_id": "wal_1"}, 422, "malformed_id", "/wallet_id"),
        (f"{nobody}/assign", assign | {"note": "x" * 501}, 422, "invalid_input", "/note"),
        ("/v1/cases/cas_1/assign", assign, 422, "malformed_id", None),
        (f"{nobody}/return", back, 404, "unknown_case", None),
        (f"{nobody}/return", {"destination": STRANGER}, 422, "invalid_input", "/memo"),
        (
            f"{nobody}/return",
            back | {"memo": {"type": "return", "value": "1"}},
            422,
            "invalid_input",
            "/memo/type",
        ),
        (f"/v1/vaults/{api.other.vault}/memo-required", {}, 404, "unknown_vault", None),
        (f"{nobody}/dismiss", {}, 404, "unknown_case", None),
        ("/v1/deposit-rules", rule | {"minimum": "-1"}, 422, "malformed_amount", "/minimum"),
        ("/v1/deposit-rules", rule | {"dust": OVER_UINT256}, 422, "amount_too_large", "/dust"),
        ("/v1/deposit-rules", rule | {"asset": "fiat/USD"}, 422, "unknown_asset", None),
        ("/v1/deposit-rules", rule | {"asset": EUR.text}, 422, "unsupported_chain", "/asset"),
        (addresses, memo("text", "7001"), 422, "invalid_address_memo", "/memo"),
        (addresses, memo("text", "x" * 29), 422, "invalid_address_memo", "/memo"),
        (addresses, memo("text", "a\u0007"), 422, "invalid_address_memo", "/memo"),
        (addresses, memo("hash", "AB" * 32), 422, "invalid_address_memo", "/memo"),
        (addresses, memo("return", "ab"), 422, "invalid_address_memo", "/memo"),
        (addresses, memo("id", "7"), 422, "invalid_input", "/memo/type"),
        (addresses, memo("text", "a") | {"chain": EVM}, 422, "memos_not_known", "/memo"),
    ]
    return [
        Case(path=path, body=body, status=status, code=code, pointer=pointer)
        for path, body, status, code, pointer in rows
    ]


@pytest.mark.parametrize("table", [withdrawals, transfers, payouts, others, cases])
async def test_a_wrong_request_meets_its_problem_and_changes_nothing(
    api: Harness, admin_dsn: str, table: Callable[[Harness], list[Case]]
) -> None:
    await add_bank_accounts(api)
    before = await api.row_counts(admin_dsn)
    surprises = []
    for case in table(api):
        answer = await api.post(case.path, case.body)
        problem = answer.json()
        pointers = [each["pointer"] for each in problem.get("errors", [])]
        told = (answer.status_code, problem.get("code"), case.pointer is None or case.pointer in pointers)
        typed = answer.headers["content-type"] == "application/problem+json" and problem["trace_id"]
        if told != (case.status, case.code, True) or not typed:
            surprises.append((case, answer.status_code, problem))
    assert surprises == []
    assert await api.row_counts(admin_dsn) == before


async def test_a_forged_decision_is_refused_and_not_recorded(api: Harness, admin_dsn: str) -> None:
    asked = await api.post(
        "/v1/withdrawals",
        {"wallet_id": api.tenant.wallet, "asset": XLM.text, "amount": "1", "destination": STRANGER},
    )
    before = await api.row_counts(admin_dsn)
    forged = {
        "approver": "alice", "public_key": public_key_of("alice"), "decision": "approve", "signature": "00" * 64
    }  # fmt: skip
    path = f"/v1/approvals/{asked.json()['id']}/decisions"
    answers = [
        await api.post(path, forged),
        await api.post(path, forged | {"approver": "mallory"}),
        await api.post(path, forged | {"public_key": "ab" * 32}),
    ]
    assert [(each.status_code, each.json()["code"]) for each in answers] == [(422, "invalid_decision")] * 3
    assert await api.row_counts(admin_dsn) == before


async def test_anothers_objects_do_not_exist(api: Harness) -> None:
    theirs = {
        "/v1/customers/": api.other.customer,
        "/v1/wallets/": api.other.wallet,
        "/v1/wallets/{}/balances": api.other.wallet,
        "/v1/wallets/{}/addresses": api.other.wallet,
        "/v1/withdrawals/": "wdr_" + NOBODY,
        "/v1/approvals/": "wdr_" + NOBODY,
        "/v1/transfers/": "trf_" + NOBODY,
        "/v1/payouts/": "pay_" + NOBODY,
        "/v1/cases/": "cas_" + NOBODY,
    }
    for path, shown in theirs.items():
        full = path.format(shown) if "{}" in path else path + shown
        answer = await api.get(full)
        assert answer.status_code == 404, full
        if not shown.endswith(NOBODY):
            assert (await api.get(full, tenant=api.other)).status_code == 200, full


async def test_lists_show_only_ones_own(api: Harness) -> None:
    await add_bank_accounts(api)
    for path in ("/v1/customers", "/v1/vaults", "/v1/bank-accounts", "/v1/audit-events"):
        mine = (await api.get(path, tenant=api.tenant)).json()["data"]
        theirs = (await api.get(path, tenant=api.other)).json()["data"]
        assert mine, path
        assert all(row not in theirs for row in mine), path


async def add_bank_accounts(api: Harness) -> None:
    """One EUR account for each tenant."""
    for tenant, iban in ((api.tenant, "DE75512108001245126199"), (api.other, "AT611904300234573201")):
        body = {"rail": "sandbox", "iban": iban, "asset": EUR.text, "name": "Main"}
        made = await api.http.post("/v1/bank-accounts", json=body, headers=api.headers(tenant=tenant))
        assert made.status_code == 201, made.text
        tenant.bank = made.json()["id"]
