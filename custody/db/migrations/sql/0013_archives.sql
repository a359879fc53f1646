-- Point-in-time reads where the oldest months are archived. They begin at what the account had when the last of them ended.

-- The last opening of an account: nothing when none of its entries is archived.
CREATE FUNCTION ledger_opening(p_tenant integer, p_account uuid) RETURNS SETOF ledger_openings
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT * FROM ledger_openings o WHERE o.tenant_id = p_tenant AND o.account_id = p_account ORDER BY o.month DESC LIMIT 1
$$;

-- next statement
-- Refuse to answer about a moment whose entries, or with p_dated whose value dates, are archived: what is left would give a wrong sum.
CREATE FUNCTION ledger_refuse_archived(p_tenant integer, p_at timestamptz, p_dated boolean) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  v_until timestamptz;
BEGIN
  SELECT max(CASE WHEN p_dated THEN greatest(a.until, a.dated_to) ELSE a.until END) INTO v_until
    FROM ledger_archives a WHERE a.tenant_id = p_tenant;
  IF p_at < v_until THEN
    RAISE EXCEPTION 'history before % is archived', v_until USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
END $$;

-- next statement
-- As before (0002), but from the account's opening on. The opening's own booking time is not known here any more, and null.
CREATE OR REPLACE FUNCTION ledger_balance_at(p_tenant integer, p_account uuid, p_at timestamptz)
RETURNS TABLE (version bigint, balance numeric, held numeric, booked_at timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
  v_opening ledger_openings;
BEGIN
  PERFORM ledger_refuse_archived(p_tenant, p_at, false);
  RETURN QUERY SELECT e.version, e.balance, e.held, e.booked_at FROM ledger_last_entry(p_tenant, p_account, p_at) AS e;
  IF NOT FOUND THEN
    SELECT * INTO v_opening FROM ledger_opening(p_tenant, p_account);
    RETURN QUERY
    SELECT v_opening.version,
           CASE a.normal_side WHEN 'debit' THEN 1 ELSE -1 END * (v_opening.debits_posted - v_opening.credits_posted),
           CASE a.normal_side WHEN 'debit' THEN v_opening.credits_pending ELSE v_opening.debits_pending END, NULL::timestamptz
      FROM ledger_accounts a WHERE a.tenant_id = p_tenant AND a.id = p_account AND v_opening.version IS NOT NULL;
  END IF;
END $$;

-- next statement
-- As before (0002), but never about a moment for which an archived entry's value date would count.
CREATE OR REPLACE FUNCTION ledger_balance_at_effective(p_tenant integer, p_account uuid, p_at timestamptz) RETURNS numeric
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  PERFORM ledger_refuse_archived(p_tenant, p_at, true);
  RETURN (
    SELECT coalesce((SELECT b.balance FROM ledger_balance_at(p_tenant, p_account, p_at) AS b), 0)
           + CASE a.normal_side WHEN 'debit' THEN 1 ELSE -1 END * (
               coalesce((SELECT sum(CASE WHEN t.effective_at <= p_at THEN t.posted ELSE -t.posted END) FROM ledger_transfers t
                          WHERE t.tenant_id = p_tenant AND t.debit_account = p_account AND t.effective_at <> t.booked_at
                            AND (t.effective_at <= p_at) <> (t.booked_at <= p_at)), 0)
               - coalesce((SELECT sum(CASE WHEN t.effective_at <= p_at THEN t.posted ELSE -t.posted END) FROM ledger_transfers t
                            WHERE t.tenant_id = p_tenant AND t.credit_account = p_account AND t.effective_at <> t.booked_at
                              AND (t.effective_at <= p_at) <> (t.booked_at <= p_at)), 0))
      FROM ledger_accounts a WHERE a.tenant_id = p_tenant AND a.id = p_account);
END $$;
