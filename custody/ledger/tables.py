"""The ledger's tables, as the migration makes them. The application reads them; only `ledger_post` writes."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy import func as sql
from sqlalchemy.types import UserDefinedType

from custody.db.base import metadata
from custody.db.columns import (
    amount_column,
    choice_column,
    created_at,
    state_column,
    tenant_column,
    text_column,
    utc_column,
    uuid_column,
    uuid_key,
)
from custody.ledger.model import AccountKind, Guard, Side
from custody.ledger.transitions import ACCOUNTS, HOLDS


class TransactionNumber(UserDefinedType[str]):
    """Postgres's 64-bit transaction number, xid8: never reused."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """The type's name in SQL."""
        return "xid8"


ledger_chart = Table(
    "ledger_chart",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("code", SmallInteger, nullable=False, unique=True),
    text_column("path", unique=True),
    choice_column("normal_side", tuple(Side)),
    choice_column("guard", tuple(Guard)),
    Column("owned", Boolean, nullable=False),
)
"""The chart of accounts: one row per kind, the same for every tenant; append-only. `chart.py` explains its columns."""

ledger_accounts = Table(
    "ledger_accounts",
    metadata,
    tenant_column(),
    uuid_key(),
    choice_column("kind", tuple(AccountKind)),
    uuid_column("owner", nullable=True),
    Column("asset_id", Integer, ForeignKey("assets.number"), nullable=False),
    choice_column("normal_side", tuple(Side)),
    choice_column("guard", tuple(Guard)),
    amount_column("floor", server_default=text("0")),
    amount_column("ceiling", nullable=True),
    state_column("state", ACCOUNTS),
    Column("version", BigInteger, nullable=False, server_default=text("0")),
    Column("head", BigInteger, nullable=False, server_default=text("0")),
    amount_column("debits_posted", server_default=text("0")),
    amount_column("credits_posted", server_default=text("0")),
    amount_column("debits_pending", server_default=text("0")),
    amount_column("credits_pending", server_default=text("0")),
    utc_column("booked_at", server_default=sql.clock_timestamp()),
    created_at(),
    Index(
        "uq_ledger_accounts_key",
        "tenant_id",
        "kind",
        "owner",
        "asset_id",
        unique=True,
        postgresql_nulls_not_distinct=True,
    ),
)
"""One row per account: gross counters of each side, posted and held, and the version of its last entry. `debits_posted` and
`credits_posted` only grow. `booked_at` is the time of that entry and `head` its place; neither runs backwards along versions."""

ledger_transfers = Table(
    "ledger_transfers",
    metadata,
    tenant_column(),
    Column("batch_id", BigInteger, primary_key=True, autoincrement=False),
    Column("leaf", Integer, primary_key=True, autoincrement=False),
    utc_column("booked_at", primary_key=True),
    uuid_column("id"),
    uuid_column("chain_id"),
    text_column("kind"),
    text_column("code"),
    uuid_column("reference"),
    uuid_column("debit_account"),
    uuid_column("credit_account"),
    amount_column("posted"),
    amount_column("pending"),
    uuid_column("target_id", nullable=True),
    Column("debit_version", BigInteger, nullable=False),
    amount_column("debit_balance"),
    amount_column("debit_held"),
    Column("credit_version", BigInteger, nullable=False),
    amount_column("credit_balance"),
    amount_column("credit_held"),
    utc_column("effective_at"),
    Column("debit_prior", BigInteger, nullable=False),
    Column("credit_prior", BigInteger, nullable=False),
    Index(
        "ix_ledger_transfers_debit_dated",
        "tenant_id",
        "debit_account",
        "effective_at",
        postgresql_where=text("effective_at <> booked_at"),
    ),
    Index(
        "ix_ledger_transfers_credit_dated",
        "tenant_id",
        "credit_account",
        "effective_at",
        postgresql_where=text("effective_at <> booked_at"),
    ),
    postgresql_partition_by="RANGE (booked_at)",
)
"""One row per applied command that moved or reserved money; append-only, one partition per month. The row carries both legs, so
that a sum other than zero cannot be expressed. `posted` moved from debit to credit; `pending` is the change of what is held
between the two. `chain_id` is the first command of its chain; `target_id` the hold that was ended or the transfer that was
reversed. `effective_at` is the value date, as a rule the time of booking. `leaf` is its place, from 0, in the tree of its
batch. It is found by id through `ledger_commands`, which has its batch, leaf and time. `debit_prior` and `credit_prior` are the
places (batch * 2^20 + leaf) of both accounts' entries before it, 0 for a first one: along them statements are read."""

ledger_batches = Table(
    "ledger_batches",
    metadata,
    tenant_column(),
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("xid", TransactionNumber, nullable=False, server_default=text("pg_current_xact_id()")),
    Column("transfers", Integer, nullable=False),
    Column("root", LargeBinary, nullable=False),
    utc_column("booked_at"),
    CheckConstraint("transfers > 0", name="not_empty"),
    CheckConstraint("length(root) = 32", name="root_length"),
)
"""One row per call that wrote transfers; append-only. `root` is the Merkle root over their leaves (`leaves.py`), written in their
own transaction. Numbers come from one sequence and may have gaps; `xid` tells a reader which batches can no longer be joined by
others that commit late: those below the oldest transaction still running."""

ledger_holds = Table(
    "ledger_holds",
    metadata,
    tenant_column(),
    uuid_key(),
    uuid_column("debit_account"),
    uuid_column("credit_account"),
    amount_column("amount"),
    amount_column("posted"),
    amount_column("remaining"),
    state_column("state", HOLDS),
    utc_column("expires_at", nullable=True),
    text_column("code"),
    uuid_column("reference"),
    utc_column("booked_at"),
    utc_column("changed_at"),
    Index("ix_ledger_holds_due", "tenant_id", "expires_at", postgresql_where=text("state = 'open'")),
)
"""One row per hold, by the id of its command: what was asked, what was posted of it, what still reserves money."""

ledger_commands = Table(
    "ledger_commands",
    metadata,
    tenant_column(),
    uuid_key(),
    text_column("kind"),
    Column("request_hash", LargeBinary, nullable=False),
    text_column("result"),
    uuid_column("account_id", nullable=True),
    uuid_column("target_id", nullable=True),
    Column("batch_id", BigInteger, nullable=True),
    Column("leaf", Integer, nullable=True),
    utc_column("booked_at"),
    Index(
        "uq_ledger_commands_reversal",
        "tenant_id",
        "target_id",
        unique=True,
        postgresql_where=text("target_id IS NOT NULL"),
    ),
    CheckConstraint("length(request_hash) = 32", name="request_hash_length"),
)
"""One row per command ever answered, refusals as well; append-only. `request_hash` is SHA-256 of its content, computed by the
posting function; `account_id` is the account a refusal or an account's change is about; `target_id` the transfer that it
reversed, which no other can; `batch_id` and `leaf`, with `booked_at`, the transfer that it made."""
