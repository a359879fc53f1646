-- Reading an account's history. Each transfer keeps, for both of its accounts, the place of the account's entry before it, and each
-- account the place of its last: entries are read from the newest backwards, one probe each. Every 64th entry of an account is in a
-- small index, a mark, from which a walk into the past begins. An index of all entries would cost more than everything else that a
-- posting writes, because each account has an end of its own in it.
--
-- A place is batch * 2^20 + leaf.

-- An account's entry at a place; nothing when its month is archived. Without settings of its own, so that it becomes a part of the
-- statements that call it and is planned as they are: for any tenant alike, by index alone.
CREATE FUNCTION ledger_entry(p_tenant integer, p_account uuid, p_place bigint) RETURNS SETOF ledger_entries
LANGUAGE sql STABLE AS $$
  SELECT e.* FROM ledger_batches b JOIN ledger_entries e ON e.tenant_id = b.tenant_id AND e.batch_id = b.id AND e.booked_at = b.booked_at
   WHERE b.tenant_id = p_tenant AND b.id = p_place >> 20 AND e.leaf = (p_place & 1048575)::integer AND e.account_id = p_account
$$;

-- next statement
-- The place from which a walk finds the entry of a version, at most 63 entries further on: its mark, or the account's last entry.
CREATE FUNCTION ledger_mark(p_tenant integer, p_account uuid, p_version bigint) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off AS $$
DECLARE
  v_mark bigint := (p_version + 63) / 64 * 64;
  v_place bigint;
BEGIN
  SELECT e.batch_id << 20 | e.leaf INTO v_place FROM ledger_entries e
   WHERE e.tenant_id = p_tenant AND e.account_id = p_account AND e.version = v_mark AND e.version % 64 = 0;
  IF v_place IS NULL THEN
    SELECT a.head INTO v_place FROM ledger_accounts a WHERE a.tenant_id = p_tenant AND a.id = p_account;
  END IF;
  RETURN v_place;
END $$;

-- next statement
-- A page of a statement: the entries after a version, oldest first.
CREATE FUNCTION ledger_statement(p_tenant integer, p_account uuid, p_after bigint, p_limit integer) RETURNS SETOF ledger_entries
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off AS $$
DECLARE
  v_place bigint := ledger_mark(p_tenant, p_account, p_after + p_limit);
  v_entry ledger_entries;
  v_page ledger_entries[] := '{}';
BEGIN
  WHILE v_place > 0 LOOP
    SELECT * INTO v_entry FROM ledger_entry(p_tenant, p_account, v_place);
    EXIT WHEN NOT FOUND OR v_entry.version <= p_after;
    IF v_entry.version <= p_after + p_limit THEN
      v_page := v_page || v_entry;
    END IF;
    v_place := v_entry.prior;
  END LOOP;
  RETURN QUERY SELECT x.* FROM unnest(v_page) AS x ORDER BY x.version;
END $$;

-- next statement
-- An account's transfers of one kind and code before a place, newest first: pages of what went in and out.
CREATE FUNCTION ledger_transfers_before(p_tenant integer, p_account uuid, p_place bigint, p_kind text, p_code text, p_limit integer)
RETURNS SETOF ledger_entries
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off AS $$
DECLARE
  v_place bigint := ledger_place_before(p_tenant, p_account, NULL, p_place);
  v_entry ledger_entries;
  v_count integer := 0;
BEGIN
  WHILE v_place > 0 AND v_count < p_limit LOOP
    SELECT * INTO v_entry FROM ledger_entry(p_tenant, p_account, v_place);
    EXIT WHEN NOT FOUND;
    IF v_entry.kind = p_kind AND v_entry.code = p_code AND v_place < p_place THEN
      RETURN NEXT v_entry;
      v_count := v_count + 1;
    END IF;
    v_place := v_entry.prior;
  END LOOP;
END $$;

-- next statement
-- Where a walk to an account's last entry not after a moment, or before a place, begins: at the first mark beyond, found by bisection,
-- or at the account's last entry. Along versions neither times nor places run backwards. A mark that is not found is archived, and so
-- lies before whatever is asked.
CREATE FUNCTION ledger_place_before(p_tenant integer, p_account uuid, p_at timestamptz, p_place bigint) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off AS $$
DECLARE
  v_low bigint := 0;    -- the mark of this number (or none) is not beyond
  v_high bigint;        -- the mark of this number would be
  v_middle bigint;
  v_place bigint;       -- where the walk begins
  v_found record;
BEGIN
  SELECT a.version / 64 + 1, a.head INTO v_high, v_place FROM ledger_accounts a WHERE a.tenant_id = p_tenant AND a.id = p_account;
  WHILE v_high - v_low > 1 LOOP
    v_middle := (v_low + v_high) / 2;
    SELECT e.booked_at, e.batch_id << 20 | e.leaf AS place INTO v_found FROM ledger_entries e
     WHERE e.tenant_id = p_tenant AND e.account_id = p_account AND e.version = v_middle * 64 AND e.version % 64 = 0;
    IF v_found.booked_at > p_at OR v_found.place >= p_place THEN
      v_high := v_middle; v_place := v_found.place;
    ELSE
      v_low := v_middle;
    END IF;
  END LOOP;
  RETURN v_place;
END $$;

-- next statement
-- The last entry of an account that was booked at a moment or before it; nothing when there is none, or its month is archived.
CREATE FUNCTION ledger_last_entry(p_tenant integer, p_account uuid, p_at timestamptz) RETURNS SETOF ledger_entries
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off AS $$
DECLARE
  v_place bigint := ledger_place_before(p_tenant, p_account, p_at, NULL);
  v_entry ledger_entries;
BEGIN
  WHILE v_place > 0 LOOP
    SELECT * INTO v_entry FROM ledger_entry(p_tenant, p_account, v_place);
    EXIT WHEN NOT FOUND;
    IF v_entry.booked_at <= p_at THEN
      RETURN NEXT v_entry;
      EXIT;
    END IF;
    v_place := v_entry.prior;
  END LOOP;
END $$;

-- next statement
-- The balance and the held amount of an account as booked at a moment.
CREATE FUNCTION ledger_balance_at(p_tenant integer, p_account uuid, p_at timestamptz)
RETURNS TABLE (version bigint, balance numeric, held numeric, booked_at timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT e.version, e.balance, e.held, e.booked_at FROM ledger_last_entry(p_tenant, p_account, p_at) AS e
$$;

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
