"""Lists for a customer begin at the customer's wallets: row-level security alone would read a tenant's whole history and hide it.

It makes lists quick and nothing safer: what a customer sees is decided by the policies `customer_view`.
"""

from __future__ import annotations

from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Column, Select, any_, func

from custody.db.session import ReadSession

_Q = TypeVar("_Q", bound=Select[Any])


def of_customer(query: _Q, session: ReadSession, wallet_id: Column[UUID]) -> _Q:
    """The query over the customer's wallets alone, where the session is a customer's."""
    if session.customer is None:
        return query
    return query.where(wallet_id == any_(func.own_wallets()))
