-- Posts as `ledger_post` does, unless something was stopped since the caller looked: then it raises CU002, and nothing was done.
--
-- The switches' lock (`p_lock`, see custody/switches/service.py) is taken before any account's and held, shared, until the
-- transaction ends. A stop takes it alone, so whatever was stopped is committed when this statement of its own looks for it: one
-- with a number above `p_newest`, the newest that the caller has seen. What it means for these commands is the caller's to say.
CREATE FUNCTION ledger_post_unless_stopped(
  p_lock bigint, p_newest bigint, p_tenant integer, p_gated boolean, p_chain int[], p_kind text[], p_id uuid[], p_debit uuid[],
  p_credit uuid[], p_amount text[], p_code text[], p_reference uuid[], p_target uuid[], p_moment timestamptz[], p_asset text[],
  p_final boolean[], p_floor text[], p_ceiling text[],
  OUT results text[], OUT replayed boolean[], OUT accounts uuid[], OUT debit_versions bigint[], OUT debit_balances text[],
  OUT credit_versions bigint[], OUT credit_balances text[], OUT booked_at timestamptz[])
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(p_lock);
  IF EXISTS (SELECT FROM switch_stops s WHERE s.tenant_id = p_tenant AND s.sequence > p_newest) THEN
    RAISE EXCEPTION 'stopped since' USING ERRCODE = 'CU002';
  END IF;
  SELECT x.* INTO results, replayed, accounts, debit_versions, debit_balances, credit_versions, credit_balances, booked_at
    FROM ledger_post(p_tenant, p_gated, p_chain, p_kind, p_id, p_debit, p_credit, p_amount, p_code, p_reference, p_target, p_moment,
                     p_asset, p_final, p_floor, p_ceiling) AS x;
END $$;
