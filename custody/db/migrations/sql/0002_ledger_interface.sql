-- What surrounds the posting function: its entrance, opening accounts, and the views and functions that read.

-- What the application calls. Another call may take the same id over other accounts at the same moment, which only the record's
-- primary key shows; the loser then starts again and finds the winner's record.
CREATE FUNCTION ledger_post(p_tenant integer, p_commands jsonb)
RETURNS TABLE (ordinal integer, result text, replayed boolean, account_id uuid,
               debit_version bigint, debit_balance numeric, credit_version bigint, credit_balance numeric, booked_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
  v_constraint text;
BEGIN
  IF p_tenant IS DISTINCT FROM current_tenant() THEN
    RAISE EXCEPTION 'this transaction acts for another tenant' USING ERRCODE = 'insufficient_privilege';
  END IF;
  FOR v_attempt IN 1 .. 8 LOOP
    BEGIN
      RETURN QUERY SELECT * FROM ledger_apply(p_tenant, p_commands);
      RETURN;
    EXCEPTION WHEN unique_violation THEN
      GET STACKED DIAGNOSTICS v_constraint = CONSTRAINT_NAME;
      IF v_constraint <> 'pk_ledger_commands' OR v_attempt = 8 THEN
        RAISE;
      END IF;
    END;
  END LOOP;
END $$;

-- next statement
-- The accounts named by the open commands of a batch, where they do not exist yet. Sides and guards follow from the chart; limits are
-- those of the first command that opens it. Answers the ids of those that are new. The chart is looked up for new accounts only.
CREATE FUNCTION ledger_open(p_tenant integer, p_commands jsonb) RETURNS SETOF uuid LANGUAGE sql AS $$
  INSERT INTO ledger_accounts (tenant_id, id, kind, owner, asset_id, normal_side, guard, floor, ceiling)
  SELECT p_tenant, y.account, y.account_kind, y.owner, y.asset_number, c.normal_side, c.guard, coalesce(y.floor, 0), y.ceiling
    FROM (SELECT DISTINCT ON (x.account) x.account, x.account_kind, x.owner, s.number AS asset_number, x.floor, x.ceiling
            FROM ROWS FROM (jsonb_to_recordset(p_commands) AS (
                   kind text, account uuid, account_kind text, owner uuid, asset text, floor numeric, ceiling numeric)
                 ) WITH ORDINALITY AS x(kind, account, account_kind, owner, asset, floor, ceiling, n)
            JOIN assets s ON s.id = x.asset
           WHERE x.kind = 'open'
             AND NOT EXISTS (SELECT FROM ledger_accounts a WHERE a.tenant_id = p_tenant AND a.id = x.account)
           ORDER BY x.account, x.n) AS y
    LEFT JOIN ledger_chart c ON c.kind = y.account_kind
   ORDER BY y.account
  ON CONFLICT DO NOTHING
  RETURNING id
$$;

-- next statement
-- Both legs of each transfer as rows of the account's own history. `signed` is positive for a debit and sums to zero per transfer.
CREATE VIEW ledger_entries WITH (security_invoker = true) AS
  SELECT t.tenant_id, t.debit_account AS account_id, t.debit_version AS version, t.id AS transfer_id, 'debit' AS side,
         t.credit_account AS counter_account, t.kind, t.code, t.reference, t.posted, t.pending, t.posted AS signed,
         t.debit_balance AS balance, t.debit_held AS held, t.booked_at, t.effective_at
    FROM ledger_transfers t
  UNION ALL
  SELECT t.tenant_id, t.credit_account, t.credit_version, t.id, 'credit',
         t.debit_account, t.kind, t.code, t.reference, t.posted, t.pending, -t.posted,
         t.credit_balance, t.credit_held, t.booked_at, t.effective_at
    FROM ledger_transfers t;

-- next statement
-- Each account's money, positive on its normal side.
CREATE VIEW ledger_balances WITH (security_invoker = true) AS
  SELECT a.tenant_id, a.id AS account_id, a.kind, a.owner, s.id AS asset, a.version,
         CASE a.normal_side WHEN 'debit' THEN 1 ELSE -1 END * (a.debits_posted - a.credits_posted) AS posted,
         CASE a.normal_side WHEN 'debit' THEN a.debits_pending ELSE a.credits_pending END AS pending_in,
         CASE a.normal_side WHEN 'debit' THEN a.credits_pending ELSE a.debits_pending END AS pending_out
    FROM ledger_accounts a JOIN assets s ON s.number = a.asset_id;

-- next statement
-- What all accounts of one kind and asset have booked: what reports are added up from.
CREATE VIEW ledger_kind_sums WITH (security_invoker = true) AS
  SELECT a.tenant_id, a.kind, s.id AS asset, count(*) AS accounts, sum(a.debits_posted) AS debits, sum(a.credits_posted) AS credits
    FROM ledger_accounts a JOIN assets s ON s.number = a.asset_id
   GROUP BY a.tenant_id, a.kind, s.id;

-- next statement
-- Debits minus credits over all accounts of an asset: zero, always.
CREATE VIEW ledger_trial_balance WITH (security_invoker = true) AS
  SELECT a.tenant_id, a.asset_id, s.id AS asset, sum(a.debits_posted) - sum(a.credits_posted) AS difference,
         sum(a.debits_pending) - sum(a.credits_pending) AS difference_pending
    FROM ledger_accounts a JOIN assets s ON s.number = a.asset_id
   GROUP BY a.tenant_id, a.asset_id, s.id;

-- next statement
-- The balance and the held amount of an account as booked at a moment. Versions have no gaps and booking times never run backwards
-- along them, so the last entry not after the moment is found by bisection: a few index probes however long the history is.
CREATE FUNCTION ledger_balance_at(p_tenant integer, p_account uuid, p_at timestamptz)
RETURNS TABLE (version bigint, balance numeric, held numeric, booked_at timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
  v_low bigint := 0;   -- the entry of this version (or none) is not after the moment
  v_high bigint;       -- the entry of this version would be after it
  v_middle bigint;
BEGIN
  SELECT a.version + 1 INTO v_high FROM ledger_accounts a WHERE a.tenant_id = p_tenant AND a.id = p_account;
  WHILE v_high - v_low > 1 LOOP
    v_middle := (v_low + v_high) / 2;
    IF (SELECT e.booked_at <= p_at FROM ledger_entries e
         WHERE e.tenant_id = p_tenant AND e.account_id = p_account AND e.version = v_middle) THEN
      v_low := v_middle;
    ELSE
      v_high := v_middle;
    END IF;
  END LOOP;
  RETURN QUERY SELECT e.version, e.balance, e.held, e.booked_at FROM ledger_entries e
                WHERE e.tenant_id = p_tenant AND e.account_id = p_account AND e.version = v_low;
END $$;

-- next statement
-- The balance of an account by value date: what was booked by then, less what takes effect later, and what was booked later and takes
-- effect by then. Only entries whose two times differ need a look beyond the bisection, and each leg has a partial index over those.
CREATE FUNCTION ledger_balance_at_effective(p_tenant integer, p_account uuid, p_at timestamptz) RETURNS numeric
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT coalesce((SELECT b.balance FROM ledger_balance_at(p_tenant, p_account, p_at) AS b), 0)
         + CASE a.normal_side WHEN 'debit' THEN 1 ELSE -1 END * (
             coalesce((SELECT sum(CASE WHEN t.effective_at <= p_at THEN t.posted ELSE -t.posted END) FROM ledger_transfers t
                        WHERE t.tenant_id = p_tenant AND t.debit_account = p_account AND t.effective_at <> t.booked_at
                          AND (t.effective_at <= p_at) <> (t.booked_at <= p_at)), 0)
             - coalesce((SELECT sum(CASE WHEN t.effective_at <= p_at THEN t.posted ELSE -t.posted END) FROM ledger_transfers t
                          WHERE t.tenant_id = p_tenant AND t.credit_account = p_account AND t.effective_at <> t.booked_at
                            AND (t.effective_at <= p_at) <> (t.booked_at <= p_at)), 0))
    FROM ledger_accounts a WHERE a.tenant_id = p_tenant AND a.id = p_account
$$;
