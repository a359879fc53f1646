-- What surrounds the posting function: its entrance, opening accounts, and the views and functions that read.

-- What the application calls. Another call may take the same id over other accounts at the same moment, which only the record's
-- primary key shows, or book a hold that this one names, or change an account that this one has read without a lock (CU001); the
-- loser then starts again and finds the winner's work.
--
-- Plans are generic: for a tenant that the statistics do not know yet, a plan for this tenant would take it to have one row, and read
-- all of them.
--
-- A gated call waits for other gated calls of its tenant before it looks at any account: large batches nearly always share accounts,
-- and a call that finds a row changed under its snapshot has to follow each row's new version one by one.
CREATE FUNCTION ledger_post(
  p_tenant integer, p_gated boolean, p_chain int[], p_kind text[], p_id uuid[], p_debit uuid[], p_credit uuid[], p_amount text[],
  p_code text[], p_reference uuid[], p_target uuid[], p_moment timestamptz[], p_asset text[], p_final boolean[], p_floor text[],
  p_ceiling text[],
  OUT results text[], OUT replayed boolean[], OUT accounts uuid[], OUT debit_versions bigint[], OUT debit_balances text[],
  OUT credit_versions bigint[], OUT credit_balances text[], OUT booked_at timestamptz[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_indexscan = on SET plan_cache_mode = force_generic_plan AS $$
DECLARE
  v_constraint text;
BEGIN
  IF p_tenant IS DISTINCT FROM current_tenant() THEN
    RAISE EXCEPTION 'this transaction acts for another tenant' USING ERRCODE = 'insufficient_privilege';
  END IF;
  FOR v_attempt IN 1 .. 8 LOOP
    BEGIN
      SELECT x.* INTO results, replayed, accounts, debit_versions, debit_balances, credit_versions, credit_balances, booked_at
        FROM ledger_apply(p_tenant, p_gated, NOT p_gated OR p_target IS NOT NULL OR v_attempt > 1, p_chain, p_kind, p_id, p_debit,
                          p_credit, p_amount, p_code, p_reference, p_target, p_moment, p_asset, p_final, p_floor, p_ceiling) AS x;
      RETURN;
    EXCEPTION WHEN unique_violation THEN
      GET STACKED DIAGNOSTICS v_constraint = CONSTRAINT_NAME;
      IF v_constraint <> 'pk_ledger_commands' OR v_attempt = 8 THEN
        RAISE;
      END IF;
    WHEN SQLSTATE 'CU001' THEN
      IF v_attempt = 8 THEN
        RAISE;
      END IF;
    END;
  END LOOP;
END $$;

-- next statement
-- The accounts named by the open commands of a batch, where they do not exist yet. Sides and guards follow from the chart; limits are
-- those of the first command that opens it. Answers the ids of those that are new. The chart is looked up for new accounts only.
CREATE FUNCTION ledger_open(p_tenant integer, p_command text[], p_account uuid[], p_kind text[], p_owner uuid[], p_asset text[],
                            p_floor numeric[], p_ceiling numeric[])
RETURNS SETOF uuid LANGUAGE sql AS $$
  INSERT INTO ledger_accounts (tenant_id, id, kind, owner, asset_id, normal_side, guard, floor, ceiling)
  SELECT p_tenant, y.account, y.kind, y.owner, y.asset_number, c.normal_side, c.guard, coalesce(y.floor, 0), y.ceiling
    FROM (SELECT DISTINCT ON (x.account) x.account, x.kind, x.owner, s.number AS asset_number, x.floor, x.ceiling
            FROM unnest(p_command, p_account, p_kind, p_owner, p_asset, p_floor, p_ceiling)
                 WITH ORDINALITY AS x(command, account, kind, owner, asset, floor, ceiling, n)
            JOIN assets s ON s.id = x.asset
           WHERE x.command = 'open'
             AND NOT EXISTS (SELECT FROM ledger_accounts a WHERE a.tenant_id = p_tenant AND a.id = x.account)
           ORDER BY x.account, x.n) AS y
    LEFT JOIN ledger_chart c ON c.kind = y.kind
   ORDER BY y.account
  ON CONFLICT DO NOTHING
  RETURNING id
$$;

-- next statement
-- What never changes of the accounts with these ids (`fixed_columns`), in their order; null where there is none.
CREATE FUNCTION ledger_terms(p_tenant integer, p_id uuid[], OUT asset int[], OUT credit_normal boolean[], OUT guard text[],
                             OUT floor numeric[], OUT ceiling numeric[])
LANGUAGE plpgsql AS $$
BEGIN
  SELECT array_agg(o.asset_id), array_agg(o.normal_side = 'credit'), array_agg(o.guard), array_agg(o.floor), array_agg(o.ceiling)
    INTO ledger_terms.asset, ledger_terms.credit_normal, ledger_terms.guard, ledger_terms.floor, ledger_terms.ceiling
    FROM unnest(p_id) AS x(id) LEFT JOIN LATERAL (
           SELECT a.asset_id, a.normal_side, a.guard, a.floor, a.ceiling
             FROM ledger_accounts a WHERE a.tenant_id = p_tenant AND a.id = x.id LIMIT 1) AS o ON true;
END $$;

-- next statement
-- Both legs of each transfer as rows of the account's own history. `signed` is positive for a debit and sums to zero per transfer.
-- `prior` is the place of the account's entry before this one, 0 for its first.
CREATE VIEW ledger_entries WITH (security_invoker = true) AS
  SELECT t.tenant_id, t.debit_account AS account_id, t.debit_version AS version, t.id AS transfer_id, 'debit' AS side,
         t.credit_account AS counter_account, t.kind, t.code, t.reference, t.posted, t.pending, t.posted AS signed,
         t.debit_balance AS balance, t.debit_held AS held, t.booked_at, t.effective_at, t.batch_id, t.leaf, t.debit_prior AS prior
    FROM ledger_transfers t
  UNION ALL
  SELECT t.tenant_id, t.credit_account, t.credit_version, t.id, 'credit',
         t.debit_account, t.kind, t.code, t.reference, t.posted, t.pending, -t.posted,
         t.credit_balance, t.credit_held, t.booked_at, t.effective_at, t.batch_id, t.leaf, t.credit_prior
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
-- What a partition of the transfers has for itself: the marks of each account's history (every 64th entry, see ledger_last_entry), no
-- way to empty it, and rows of one tenant only for whoever asks it directly.
CREATE FUNCTION ledger_guard_partition(p_name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('CREATE UNIQUE INDEX %I ON %I (tenant_id, debit_account, debit_version) WHERE debit_version %% 64 = 0',
                 'uq_' || p_name || '_debit_mark', p_name);
  EXECUTE format('CREATE UNIQUE INDEX %I ON %I (tenant_id, credit_account, credit_version) WHERE credit_version %% 64 = 0',
                 'uq_' || p_name || '_credit_mark', p_name);
  EXECUTE format('CREATE TRIGGER append_only_table BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', p_name);
  EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', p_name);
  EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', p_name);
  EXECUTE format('CREATE POLICY tenant_isolation ON %I USING (tenant_id = (SELECT current_tenant())) '
                 'WITH CHECK (tenant_id = (SELECT current_tenant()))', p_name);
END $$;

-- next statement
-- A partition of the transfers for each month from this one to that of a day, where there is none yet. Answers how many were made.
-- What is booked in a month that nobody prepared lands in the default partition; the month can then not be cut out of it any more.
CREATE FUNCTION ledger_prepare_partitions(p_until date) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  v_month date := date_trunc('month', now());
  v_made integer := 0;
  v_name text;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('ledger_prepare_partitions', 0));
  WHILE v_month <= p_until LOOP
    v_name := 'ledger_transfers_' || to_char(v_month, 'YYYY_MM');
    IF to_regclass(v_name) IS NULL THEN
      EXECUTE format('CREATE TABLE public.%I PARTITION OF ledger_transfers FOR VALUES FROM (%L) TO (%L)', v_name,
                     v_month::timestamptz, (v_month + interval '1 month')::timestamptz);
      PERFORM ledger_guard_partition(v_name);
      v_made := v_made + 1;
    END IF;
    v_month := v_month + interval '1 month';
  END LOOP;
  RETURN v_made;
END $$;
