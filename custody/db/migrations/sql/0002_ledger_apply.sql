-- The posting function's body: the only writer of the ledger (with ledger_open).
--
-- One call takes commands in order, grouped in chains (equal neighbouring `chain` numbers; all of a chain or none of it), and answers
-- each. Reads and writes are set-wise; in between the commands are evaluated one after the other on arrays in memory, so that
-- available funds are checked at every step in batch order, a refused command costs no more than a good one, and the results cannot
-- depend on how a stream of commands was cut into batches.
--
-- It is one long function on purpose: its working state is a set of arrays, which a call to another function would copy.
--
-- Rows are found one by one through the primary key (LATERAL ... LIMIT 1, and nested loops only, see ledger_post): with the sizes of
-- unnested arrays unknown, the planner would else fall for plans that read all of a tenant's rows.
--
-- Lock order: accounts by id, holds by id, command ids by id. Reads after a lock see what its last holder committed, because each
-- statement of a volatile function takes a new snapshot in READ COMMITTED.
--
-- A call that nobody else's call runs beside as a rule (gated, and naming nothing but accounts) does not lock accounts before it reads
-- them: a lock costs a write. It reads all in one statement, and in the end changes each account only if it still is as it was read.
-- When one is not, what was decided is void: the call starts again, with locks (`p_locked`; see ledger_post). It locks no hold either,
-- not even one that a repeated command made: a hold is locked after its accounts.

-- A command is one place in each array, whose meaning its kind decides; an array of which no command has anything is null.
--   transfer, hold        id, debit, credit, amount, code, reference; moment: value date or expiry
--   post_hold, void_hold, expire_hold   id, target: the hold; post_hold: amount and asset (or neither), final, moment: value date;
--                         expire_hold: moment: the caller's time, which is no part of the command
--   reverse               id, target: the transfer; moment: value date
--   freeze, unfreeze, close   id, debit: the account
--   open                  debit: the account; code: its kind; reference: its owner; asset, floor, ceiling
-- The answers are arrays too, in the same order. Where nothing but new transfers was asked and all were applied, results, replayed and
-- accounts are null, and booked_at has one place for all.

CREATE FUNCTION ledger_apply(
  p_tenant integer, p_gated boolean, p_locked boolean, c_chain int[], c_kind text[], c_id uuid[], c_debit uuid[], c_credit uuid[],
  p_amount text[], c_code text[], c_reference uuid[], c_target uuid[], c_moment timestamptz[], c_asset text[], c_final boolean[],
  p_floor text[], p_ceiling text[],
  OUT results text[], OUT replayed boolean[], OUT accounts uuid[], OUT debit_versions bigint[], OUT debit_balances text[],
  OUT credit_versions bigint[], OUT credit_balances text[], OUT booked_at timestamptz[])
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  k_max constant numeric := 115792089237316195423570985008687907853269984665640564039457584007913129639935;  -- 2^256 - 1
  k_vast constant numeric := 10::numeric ^ 76;  -- four of these fit into one side
  -- c_: the commands as given, by ordinal. Accounts as slots are in c_d and c_c, the first id of its chain is at c_head.
  c_amount numeric[]; c_floor numeric[]; c_ceiling numeric[]; c_hash bytea[]; c_count constant int := coalesce(cardinality(c_kind), 0);
  c_d int[]; c_c int[]; c_head int[]; c_first jsonb;
  -- a_: the accounts that are named, by slot, in the order of their ids. One that is not there (yet) has no state.
  a_id uuid[]; a_map jsonb; a_at tid[]; a_asset int[]; a_credit_normal boolean[]; a_guard text[];
  a_floor numeric[]; a_ceiling numeric[];
  a_state text[]; a_version bigint[]; a_head bigint[];  -- the place of the last entry
  a_dp numeric[]; a_cp numeric[]; a_dh numeric[]; a_ch numeric[];  -- debits and credits, posted and held
  a_was text[]; a_seen bigint[]; a_held numeric[];  -- state, version and what is held, as they were read
  a_least numeric[]; a_most numeric[];  -- between which credits less debits may go with no further question
  a_new uuid[] := '{}';  -- accounts that this call opens: not there before their open command's turn
  -- h_: holds that are touched or would be made, by slot. A slot of a hold not yet made has h_exists false.
  h_id uuid[]; h_debit uuid[]; h_credit uuid[]; h_amount numeric[]; h_posted numeric[]; h_remaining numeric[]; h_state text[];
  h_expires timestamptz[]; h_code text[]; h_reference uuid[]; h_exists boolean[]; h_stored int := 0; h_map jsonb := '{}';
  -- t_: transfers that somebody wants to reverse, by slot.
  t_id uuid[]; t_kind text[]; t_debit uuid[]; t_credit uuid[]; t_posted numeric[]; t_code text[]; t_reference uuid[];
  t_exists boolean[]; t_gone boolean[]; t_reversed boolean[]; t_map jsonb := '{}';
  -- p_: commands recorded by earlier calls.
  p_hash bytea[]; p_result text[]; p_account uuid[]; p_batch bigint[]; p_leaf int[]; p_booked timestamptz[]; p_map jsonb := '{}';
  -- r_: what is answered and written, by ordinal.
  r_result text[]; r_new boolean[]; r_account uuid[]; r_d int[]; r_c int[]; r_posted numeric[]; r_pending numeric[];
  r_dv bigint[]; r_cv bigint[]; r_db numeric[]; r_cb numeric[]; r_dheld numeric[]; r_cheld numeric[];
  r_code text[]; r_reference uuid[]; r_target uuid[]; r_old text[]; r_head uuid[]; r_leaf int[];
  r_dprior bigint[]; r_cprior bigint[];  -- the places of both accounts' entries before
  v_now timestamptz; v_chain int; v_start int := 1; v_failed boolean := false; v_head uuid; v_ids uuid[];
  v_result text; v_asset text; v_account uuid; v_posted numeric; v_pending numeric; d int; c int; h int; t int; k int; j int;
  v_leaf int := 0; v_leaf_start int := 0; v_batch bigint; v_micros bigint; v_twins boolean; v_level bytea[]; v_size int; v_made record;
  v_small boolean; v_twice boolean; v_simple boolean; v_place bigint; v_from numeric; v_to numeric;
  v_clean boolean := true;  -- nothing but new transfers, all applied
BEGIN
  IF c_count = 0 THEN
    RETURN;
  END IF;
  IF c_count > 1000000 THEN  -- a leaf has 20 bits in a place
    RAISE EXCEPTION 'too many commands in one call' USING ERRCODE = 'program_limit_exceeded';
  END IF;
  IF array_to_string(p_amount || p_floor || p_ceiling, ' ') ~ '[^-0-9 ]' THEN
    RAISE EXCEPTION 'an amount is not a whole number of atomic units' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  c_amount := p_amount::numeric[]; c_floor := p_floor::numeric[]; c_ceiling := p_ceiling::numeric[];
  SELECT count(*) FILTER (WHERE (x.id IS NULL) <> (x.kind = 'open')), count(DISTINCT x.id) < count(x.id)
    INTO k, v_twins FROM unnest(c_id, c_kind) AS x(id, kind);
  IF k > 0 THEN
    RAISE EXCEPTION 'every command but open needs an id' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF array_to_string(c_code, ' ') ~ '[^a-z_ ]' OR '' = ANY (c_code) THEN
    RAISE EXCEPTION 'a code is a lower-case word' USING ERRCODE = 'invalid_parameter_value';
  END IF;

  -- What needs no lock: what each command says, and what is recorded of it. A record that comes in later is met when this call
  -- writes its own.
  c_hash := array_fill(NULL::bytea, ARRAY[c_count]);
  c_head := array_fill(NULL::int, ARRAY[c_count]);
  FOR i IN 1 .. c_count LOOP
    IF c_chain[i] IS DISTINCT FROM v_chain THEN
      v_chain := c_chain[i]; k := NULL;
    END IF;
    IF c_id[i] IS NOT NULL THEN
      k := coalesce(k, i); c_head[i] := k;
      -- An absent part is written as nothing.
      c_hash[i] := sha256(convert_to(concat('ledger-command-v1|', c_kind[i], '|', c_debit[i], '|', c_credit[i], '|', c_amount[i], '|',
        c_code[i], '|', c_reference[i], '|', c_target[i], '|',
        CASE WHEN c_kind[i] <> 'expire_hold' THEN extract(epoch FROM c_moment[i]) END, '|', c_asset[i], '|',
        coalesce(c_final[i], false)), 'UTF8'));
    END IF;
  END LOOP;
  SELECT coalesce(jsonb_object_agg(o.id::text, o.n), '{}'), array_agg(o.request_hash ORDER BY o.n), array_agg(o.result ORDER BY o.n),
         array_agg(o.account_id ORDER BY o.n), array_agg(o.batch_id ORDER BY o.n), array_agg(o.leaf ORDER BY o.n),
         array_agg(o.booked_at ORDER BY o.n)
    INTO p_map, p_hash, p_result, p_account, p_batch, p_leaf, p_booked
    FROM (SELECT m.*, row_number() OVER () AS n FROM (SELECT DISTINCT y.id FROM unnest(c_id) AS y(id)) AS x, LATERAL (
            SELECT q.* FROM ledger_commands q WHERE q.tenant_id = p_tenant AND q.id = x.id LIMIT 1) AS m) AS o;
  IF v_twins THEN
    SELECT jsonb_object_agg(o.id::text, o.n) INTO c_first
      FROM (SELECT x.id, min(x.n) AS n FROM unnest(c_id) WITH ORDINALITY AS x(id, n) WHERE x.id IS NOT NULL GROUP BY x.id) AS o;
  END IF;

  -- Where the money of named holds and reversed transfers lies. Those columns never change, so they are read before the locks, but
  -- not before the turn: what the call before this one made is there then.
  v_ids := array_fill(NULL::uuid, ARRAY[c_count]);
  v_ids := coalesce(c_debit, v_ids) || coalesce(c_credit, v_ids);
  IF c_target IS NOT NULL THEN
    IF p_gated THEN
      PERFORM pg_advisory_xact_lock(hashtextextended('ledger_post', p_tenant));
    END IF;
    SELECT v_ids || array_agg(x.id) INTO v_ids
    FROM (SELECT unnest(ARRAY[m.debit_account, m.credit_account]) FROM unnest(c_target, c_kind) AS y(id, kind), LATERAL (
            SELECT o.debit_account, o.credit_account FROM ledger_holds o
             WHERE y.kind <> 'reverse' AND o.tenant_id = p_tenant AND o.id = y.id LIMIT 1) AS m
          UNION ALL
          SELECT unnest(ARRAY[m.debit_account, m.credit_account]) FROM unnest(c_target, c_kind) AS y(id, kind), LATERAL (
            SELECT o.debit_account, o.credit_account FROM ledger_commands q
              JOIN ledger_transfers o ON o.tenant_id = q.tenant_id AND o.batch_id = q.batch_id AND o.leaf = q.leaf
                                     AND o.booked_at = q.booked_at
             WHERE y.kind = 'reverse' AND q.tenant_id = p_tenant AND q.id = y.id LIMIT 1) AS m) AS x(id);
  END IF;
  a_id := ARRAY(SELECT DISTINCT y.id FROM unnest(v_ids) AS y(id) WHERE y.id IS NOT NULL ORDER BY y.id);
  SELECT array_agg(x.slot ORDER BY x.n) FILTER (WHERE x.n <= c_count),
         array_agg(x.slot ORDER BY x.n) FILTER (WHERE x.n > c_count AND x.n <= 2 * c_count)
    INTO c_d, c_c
    FROM (SELECT y.n, CASE WHEN y.id IS NOT NULL THEN (dense_rank() OVER (ORDER BY y.id))::int END AS slot
            FROM unnest(v_ids) WITH ORDINALITY AS y(id, n)) AS x;

  -- What every command is answered and written as, until something is found against it.
  r_result := array_fill('applied'::text, ARRAY[c_count]); r_new := array_fill(true, ARRAY[c_count]);
  r_account := array_fill(NULL::uuid, ARRAY[c_count]);     r_target := array_fill(NULL::uuid, ARRAY[c_count]);
  r_code := c_code; r_reference := c_reference;            r_old := array_fill(NULL::text, ARRAY[c_count]);
  r_d := c_d; r_c := c_c; r_posted := c_amount;            r_pending := array_fill(0::numeric, ARRAY[c_count]);
  r_dv := array_fill(NULL::bigint, ARRAY[c_count]);        r_cv := array_fill(NULL::bigint, ARRAY[c_count]);
  r_db := array_fill(NULL::numeric, ARRAY[c_count]);       r_cb := array_fill(NULL::numeric, ARRAY[c_count]);
  r_dheld := array_fill(NULL::numeric, ARRAY[c_count]);    r_cheld := array_fill(NULL::numeric, ARRAY[c_count]);
  r_dprior := array_fill(0::bigint, ARRAY[c_count]);       r_cprior := array_fill(0::bigint, ARRAY[c_count]);
  r_leaf := array_fill(NULL::int, ARRAY[c_count]);
  -- Whether all amounts together cannot overflow an account that is not vast itself.
  v_small := coalesce((SELECT sum(abs(x)) FROM unnest(c_amount) AS x) < k_vast, true);
  -- What never changes of an account is read now. That also finds the accounts' pages and clears them of old rows while the call
  -- before is still at work, so that the read behind the gate, and the change, meet them in the processor's cache.
  SELECT x.* INTO a_asset, a_credit_normal, a_guard, a_floor, a_ceiling FROM ledger_terms(p_tenant, a_id) AS x;
  IF p_gated THEN
    PERFORM pg_advisory_xact_lock(hashtextextended('ledger_post', p_tenant));
  END IF;

  -- Accounts that are opened. An empty account is no money: it stays even if its chain is refused.
  IF 'open' = ANY (c_kind) THEN
    SELECT coalesce(array_agg(x.id), '{}') INTO a_new
      FROM ledger_open(p_tenant, c_kind, c_debit, c_code, c_reference, c_asset, c_floor, c_ceiling) AS x(id);
  END IF;
  IF p_locked THEN
    PERFORM FROM unnest(a_id) AS x(id), LATERAL (
      SELECT FROM ledger_accounts a WHERE a.tenant_id = p_tenant AND a.id = x.id LIMIT 1 FOR UPDATE) AS o;
  END IF;
  SELECT array_agg(o.ctid), array_agg(o.state), array_agg(o.version), array_agg(o.debits_posted), array_agg(o.credits_posted),
         array_agg(o.debits_pending), array_agg(o.credits_pending), array_agg(o.head), max(o.booked_at),
         array_agg(CASE WHEN o.credit_normal THEN o.debits_pending ELSE o.credits_pending END),
         array_agg(CASE WHEN o.quiet THEN CASE
                     WHEN NOT o.credit_normal THEN coalesce(o.debits_pending - o.ceiling, '-Infinity')
                     WHEN o.guard = 'always' THEN o.floor + o.debits_pending ELSE '-Infinity' END END),
         array_agg(CASE WHEN o.quiet THEN CASE
                     WHEN o.credit_normal THEN coalesce(o.ceiling - o.credits_pending, 'Infinity')
                     WHEN o.guard = 'always' THEN -(o.floor + o.credits_pending) ELSE 'Infinity' END END)
    INTO a_at, a_state, a_version, a_dp, a_cp, a_dh, a_ch, a_head, v_now, a_held, a_least, a_most
    FROM unnest(a_id) AS x(id) LEFT JOIN LATERAL (
           SELECT a.ctid, a.*, a.normal_side = 'credit' AS credit_normal,
                  a.state = 'open' AND greatest(a.debits_posted, a.credits_posted, a.debits_pending, a.credits_pending) < k_vast
                    AS quiet
             FROM ledger_accounts a WHERE a.tenant_id = p_tenant AND a.id = x.id LIMIT 1) AS o ON true;
  IF array_position(a_asset, NULL) IS NOT NULL THEN  -- some were not there yet, and may be now
    SELECT x.* INTO a_asset, a_credit_normal, a_guard, a_floor, a_ceiling FROM ledger_terms(p_tenant, a_id) AS x;
  END IF;
  a_was := a_state; a_seen := a_version;
  -- Taken when all is read, and never before what these accounts have seen: along versions, time does not run backwards. That of
  -- the table is among them: whoever archives a month waits for every call that has a time in it.
  LOCK TABLE ONLY ledger_transfers IN ROW EXCLUSIVE MODE;
  v_now := greatest(v_now, clock_timestamp());
  IF cardinality(a_new) > 0 THEN
    FOR u IN 1 .. cardinality(a_id) LOOP
      IF a_id[u] = ANY (a_new) THEN
        a_state[u] := NULL; a_least[u] := NULL; a_most[u] := NULL;
      END IF;
    END LOOP;
  END IF;
  IF c_target IS NOT NULL THEN
    -- Empty, not null, where no account was named: what was booked meanwhile must be found missing in it below.
    SELECT coalesce(jsonb_object_agg(x.id::text, x.n), '{}') INTO a_map FROM unnest(a_id) WITH ORDINALITY AS x(id, n);
  END IF;

  IF c_kind && ARRAY['hold', 'post_hold', 'void_hold', 'expire_hold'] THEN
    SELECT array_agg(o.id), array_agg(o.debit_account), array_agg(o.credit_account), array_agg(o.amount), array_agg(o.posted),
           array_agg(o.remaining), array_agg(o.state), array_agg(o.expires_at), array_agg(o.code), array_agg(o.reference),
           array_agg(true), count(*)
      INTO h_id, h_debit, h_credit, h_amount, h_posted, h_remaining, h_state, h_expires, h_code, h_reference, h_exists, h_stored
      FROM (SELECT DISTINCT y.id FROM unnest(c_target) AS y(id) WHERE y.id IS NOT NULL ORDER BY y.id) AS x, LATERAL (
             SELECT q.* FROM ledger_holds q WHERE q.tenant_id = p_tenant AND q.id = x.id LIMIT 1 FOR UPDATE) AS o;
    SELECT h_id || array_agg(DISTINCT x.id) INTO h_id
      FROM unnest(c_id, c_kind) AS x(id, kind)
     WHERE x.kind = 'hold' AND x.id <> ALL (coalesce(h_id, '{}'));
    k := coalesce(cardinality(h_id), 0) - h_stored;
    h_debit := h_debit || array_fill(NULL::uuid, ARRAY[k]);        h_credit := h_credit || array_fill(NULL::uuid, ARRAY[k]);
    h_amount := h_amount || array_fill(0::numeric, ARRAY[k]);      h_posted := h_posted || array_fill(0::numeric, ARRAY[k]);
    h_remaining := h_remaining || array_fill(0::numeric, ARRAY[k]); h_state := h_state || array_fill('open'::text, ARRAY[k]);
    h_expires := h_expires || array_fill(NULL::timestamptz, ARRAY[k]); h_code := h_code || array_fill(''::text, ARRAY[k]);
    h_reference := h_reference || array_fill(NULL::uuid, ARRAY[k]); h_exists := h_exists || array_fill(false, ARRAY[k]);
    SELECT coalesce(jsonb_object_agg(x.id::text, x.n), '{}') INTO h_map FROM unnest(h_id) WITH ORDINALITY AS x(id, n);
  END IF;

  IF 'reverse' = ANY (c_kind) THEN
    SELECT array_agg(x.id ORDER BY x.id), array_agg(o.kind ORDER BY x.id), array_agg(o.debit_account ORDER BY x.id),
           array_agg(o.credit_account ORDER BY x.id), array_agg(o.posted ORDER BY x.id), array_agg(o.code ORDER BY x.id),
           array_agg(o.reference ORDER BY x.id), array_agg(o.id IS NOT NULL ORDER BY x.id),
           array_agg(m.batch_id IS NOT NULL AND o.id IS NULL ORDER BY x.id),
           array_agg(EXISTS (SELECT FROM ledger_commands r WHERE r.tenant_id = p_tenant AND r.target_id = x.id) ORDER BY x.id)
      INTO t_id, t_kind, t_debit, t_credit, t_posted, t_code, t_reference, t_exists, t_gone, t_reversed
      FROM (SELECT DISTINCT y.id FROM unnest(c_target, c_kind) AS y(id, kind) WHERE y.kind = 'reverse' AND y.id IS NOT NULL) AS x
      LEFT JOIN LATERAL (
             SELECT q.* FROM ledger_commands q WHERE q.tenant_id = p_tenant AND q.id = x.id LIMIT 1) AS m ON true
      LEFT JOIN LATERAL (
             SELECT q.* FROM ledger_transfers q
              WHERE q.tenant_id = p_tenant AND q.batch_id = m.batch_id AND q.leaf = m.leaf AND q.booked_at = m.booked_at
              LIMIT 1) AS o ON true;
    SELECT coalesce(jsonb_object_agg(x.id::text, x.n), '{}') INTO t_map FROM unnest(t_id) WITH ORDINALITY AS x(id, n);
  END IF;

  -- A hold or transfer that was booked while this call waited for its locks names accounts that are not locked: start again.
  IF c_target IS NOT NULL THEN
    IF EXISTS (SELECT FROM unnest(h_id || t_id, h_debit || t_debit, h_credit || t_credit) AS x(id, debit, credit)
                WHERE x.id = ANY (c_target)
                  AND (NOT a_map ? x.debit::text OR NOT a_map ? x.credit::text)) THEN
      RAISE EXCEPTION 'overtaken' USING ERRCODE = 'CU001';
    END IF;
  END IF;

  IF c_kind && ARRAY['transfer', 'hold', 'post_hold', 'void_hold', 'expire_hold', 'reverse'] THEN
    v_batch := nextval('ledger_batch_numbers');
  END IF;
  v_place := v_batch << 20; v_chain := NULL; k := NULL; j := NULL;
  -- Whether any id may be met twice.
  v_twice := p_hash IS NOT NULL OR v_twins OR t_id IS NOT NULL;
  v_simple := v_small;
  FOR i IN 1 .. c_count LOOP
    IF c_chain[i] IS DISTINCT FROM v_chain THEN
      v_chain := c_chain[i]; v_start := i; v_failed := false; v_leaf_start := v_leaf;
    END IF;

    -- Known already: recorded by an earlier call, or earlier in this one, under this id.
    IF v_twice THEN
      k := (p_map ->> c_id[i]::text)::int; j := (c_first ->> c_id[i]::text)::int;
      v_simple := v_small AND k IS NULL AND (j < i) IS NOT TRUE AND NOT t_map ? c_id[i]::text;
    END IF;

    -- The common case first: a transfer within what both accounts take with no further question. All others are decided below.
    IF v_simple AND c_kind[i] = 'transfer' AND NOT v_failed THEN
      d := c_d[i]; c := c_c[i]; v_posted := c_amount[i];
      v_from := a_cp[d] - a_dp[d] - v_posted; v_to := a_cp[c] - a_dp[c] + v_posted;
      IF v_from >= a_least[d] AND v_to <= a_most[c] AND v_posted > 0 AND a_asset[d] = a_asset[c] AND d <> c THEN
        a_dp[d] := a_dp[d] + v_posted;    a_cp[c] := a_cp[c] + v_posted;
        r_dv[i] := a_version[d] + 1;      r_cv[i] := a_version[c] + 1;
        a_version[d] := r_dv[i];          a_version[c] := r_cv[i];
        r_dprior[i] := a_head[d];         r_cprior[i] := a_head[c];
        a_head[d] := v_place | v_leaf;    a_head[c] := v_place | v_leaf;
        r_db[i] := CASE WHEN a_credit_normal[d] THEN v_from ELSE -v_from END;
        r_cb[i] := CASE WHEN a_credit_normal[c] THEN v_to ELSE -v_to END;
        r_leaf[i] := v_leaf; v_leaf := v_leaf + 1;
        CONTINUE;
      END IF;
    END IF;
    IF NOT v_twice THEN
      k := NULL; j := NULL;
    END IF;
    v_result := NULL; v_account := NULL; v_posted := 0; v_pending := 0; d := NULL; c := NULL; h := NULL; t := NULL;
    v_clean := false;

    IF k IS NOT NULL THEN
      v_result := CASE WHEN p_hash[k] = c_hash[i] THEN p_result[k] ELSE 'transfer_exists_different' END;
      v_account := CASE WHEN p_hash[k] = c_hash[i] THEN p_account[k] END;
    ELSIF j < i THEN
      v_result := CASE WHEN c_hash[j] = c_hash[i] THEN r_result[j] ELSE 'transfer_exists_different' END;
      v_account := CASE WHEN c_hash[j] = c_hash[i] THEN r_account[j] END;
    ELSIF c_kind[i] = 'open' THEN
      k := c_d[i];
      IF c_debit[i] = ANY (a_new) THEN
        a_state[k] := coalesce(a_state[k], 'open');
      END IF;
      v_result := CASE
        WHEN a_state[k] IS NULL THEN 'unknown_asset'
        WHEN c_floor[i] <> a_floor[k] OR c_ceiling[i] IS NOT NULL AND c_ceiling[i] IS DISTINCT FROM a_ceiling[k]
          THEN 'account_exists_different'
        ELSE 'applied' END;
      v_account := c_debit[i];
    ELSIF v_failed THEN
      v_result := 'chain_refused';
    END IF;
    r_new[i] := k IS NULL AND (j < i) IS NOT TRUE AND c_kind[i] <> 'open';

    -- What the command wants: an account's state, or `posted` and `pending` between two accounts.
    IF v_result IS NULL THEN
      CASE c_kind[i]
      WHEN 'transfer', 'hold' THEN
        d := c_d[i]; c := c_c[i];
        IF c_kind[i] = 'transfer' THEN
          v_posted := c_amount[i];
        ELSE
          v_pending := c_amount[i]; h := (h_map ->> c_id[i]::text)::int;
        END IF;
        v_result := CASE
          WHEN c_amount[i] <= 0 THEN 'amount_not_positive'
          WHEN c_amount[i] > k_max THEN 'amount_too_large'
          WHEN c_debit[i] = c_credit[i] THEN 'same_account'
          WHEN a_state[d] IS NULL OR a_state[c] IS NULL THEN 'unknown_account' END;
        IF v_result = 'unknown_account' THEN
          v_account := CASE WHEN a_state[d] IS NULL THEN c_debit[i] ELSE c_credit[i] END;
        END IF;
      WHEN 'post_hold', 'void_hold', 'expire_hold' THEN
        h := (h_map ->> c_target[i]::text)::int; r_target[i] := c_target[i];
        IF h IS NULL OR h_exists[h] IS NOT TRUE THEN
          v_result := 'hold_not_found';
        ELSE
          d := (a_map ->> h_debit[h]::text)::int; c := (a_map ->> h_credit[h]::text)::int;
          r_code[i] := h_code[h]; r_reference[i] := h_reference[h];
          v_pending := -h_remaining[h];
          v_asset := CASE WHEN c_asset[i] IS NOT NULL THEN (SELECT s.id FROM assets s WHERE s.number = a_asset[d]) END;
          IF c_kind[i] = 'post_hold' THEN
            v_posted := coalesce(c_amount[i], h_remaining[h]);
            v_pending := CASE WHEN coalesce(c_final[i], false) THEN v_pending ELSE -v_posted END;
          END IF;
          v_result := CASE
            WHEN h_remaining[h] = 0 THEN 'hold_not_open'
            WHEN c_kind[i] = 'expire_hold' AND (h_expires[h] > c_moment[i]) IS NOT FALSE THEN 'hold_not_due'
            WHEN c_amount[i] <= 0 THEN 'amount_not_positive'
            WHEN c_amount[i] > k_max THEN 'amount_too_large'
            WHEN c_asset[i] <> v_asset THEN 'asset_mismatch'
            WHEN v_posted > h_remaining[h] THEN 'hold_exceeded' END;
        END IF;
      WHEN 'reverse' THEN
        t := (t_map ->> c_target[i]::text)::int; r_target[i] := c_target[i];
        v_result := CASE
          WHEN t IS NULL OR NOT t_exists[t] AND NOT t_gone[t] THEN 'transfer_not_found'
          WHEN NOT t_exists[t] THEN 'transfer_archived'
          WHEN t_kind[t] NOT IN ('transfer', 'post_hold') THEN 'not_reversible'
          WHEN t_reversed[t] THEN 'already_reversed' END;
        IF v_result IS NULL THEN
          d := (a_map ->> t_credit[t]::text)::int; c := (a_map ->> t_debit[t]::text)::int;
          v_posted := t_posted[t]; r_code[i] := t_code[t]; r_reference[i] := t_reference[t];
        END IF;
      WHEN 'freeze', 'unfreeze', 'close' THEN
        d := c_d[i];
        v_account := c_debit[i];
        v_result := CASE
          WHEN a_state[d] IS NULL THEN 'unknown_account'
          WHEN a_state[d] = 'closed' THEN 'account_closed'
          WHEN c_kind[i] = 'freeze' AND a_state[d] = 'frozen' THEN 'account_frozen'
          WHEN c_kind[i] = 'unfreeze' AND a_state[d] = 'open' THEN 'account_not_frozen'
          WHEN c_kind[i] = 'close' AND (a_dp[d] <> a_cp[d] OR a_dh[d] <> 0 OR a_ch[d] <> 0) THEN 'account_not_empty'
          ELSE 'applied' END;
        IF v_result = 'applied' THEN
          r_d[i] := d; r_old[i] := a_state[d]; a_least[d] := NULL; a_most[d] := NULL;
          a_state[d] := CASE c_kind[i] WHEN 'freeze' THEN 'frozen' WHEN 'unfreeze' THEN 'open' ELSE 'closed' END;
        END IF;
      END CASE;

      -- New money to move or to reserve: the accounts must allow it. Ending a hold never lowers what is available.
      IF v_result IS NULL AND v_posted + v_pending > 0 THEN
        v_result := CASE
          WHEN a_asset[d] <> a_asset[c] THEN 'asset_mismatch'
          WHEN 'closed' IN (a_state[d], a_state[c]) THEN 'account_closed'
          WHEN (a_credit_normal[d] AND a_state[d] = 'frozen') OR (NOT a_credit_normal[c] AND a_state[c] = 'frozen')
            THEN 'account_frozen'
          WHEN a_dp[d] + a_dh[d] + v_posted + v_pending > k_max OR a_cp[c] + a_ch[c] + v_posted + v_pending > k_max
            THEN 'amount_too_large'
          WHEN a_credit_normal[d] AND (a_guard[d] = 'always' OR (a_guard[d] = 'holds' AND v_pending > 0))
               AND a_cp[d] - a_dp[d] - a_dh[d] - v_posted - v_pending < a_floor[d] THEN 'insufficient_funds'
          WHEN NOT a_credit_normal[c] AND (a_guard[c] = 'always' OR (a_guard[c] = 'holds' AND v_pending > 0))
               AND a_dp[c] - a_cp[c] - a_ch[c] - v_posted - v_pending < a_floor[c] THEN 'insufficient_funds_counter'
          -- What may still come in counts as in, so that a hold once made can be posted.
          WHEN NOT a_credit_normal[d] AND a_dp[d] - a_cp[d] + a_dh[d] + v_posted + v_pending > a_ceiling[d] THEN 'exceeds_ceiling'
          WHEN a_credit_normal[c] AND a_cp[c] - a_dp[c] + a_ch[c] + v_posted + v_pending > a_ceiling[c]
            THEN 'exceeds_ceiling_counter' END;
        IF v_result IS NOT NULL THEN
          v_account := CASE v_result
            WHEN 'account_closed' THEN CASE WHEN a_state[d] = 'closed' THEN a_id[d] ELSE a_id[c] END
            WHEN 'account_frozen' THEN CASE WHEN a_credit_normal[d] AND a_state[d] = 'frozen' THEN a_id[d] ELSE a_id[c] END
            WHEN 'insufficient_funds' THEN a_id[d]
            WHEN 'exceeds_ceiling' THEN a_id[d]
            WHEN 'insufficient_funds_counter' THEN a_id[c]
            WHEN 'exceeds_ceiling_counter' THEN a_id[c] END;
          v_result := replace(v_result, '_counter', '');
        END IF;
      END IF;

      -- From here it must succeed.
      IF v_result IS NULL THEN
        v_result := 'applied';
        a_dp[d] := a_dp[d] + v_posted;   a_cp[c] := a_cp[c] + v_posted;
        a_dh[d] := a_dh[d] + v_pending;  a_ch[c] := a_ch[c] + v_pending;
        a_version[d] := a_version[d] + 1; a_version[c] := a_version[c] + 1;
        r_dprior[i] := a_head[d];         r_cprior[i] := a_head[c];
        a_head[d] := v_place | v_leaf;    a_head[c] := a_head[d];
        r_leaf[i] := v_leaf; v_leaf := v_leaf + 1;
        r_d[i] := d; r_c[i] := c; r_posted[i] := v_posted; r_pending[i] := v_pending;
        r_dv[i] := a_version[d]; r_cv[i] := a_version[c];
        r_db[i] := CASE WHEN a_credit_normal[d] THEN a_cp[d] - a_dp[d] ELSE a_dp[d] - a_cp[d] END;
        r_cb[i] := CASE WHEN a_credit_normal[c] THEN a_cp[c] - a_dp[c] ELSE a_dp[c] - a_cp[c] END;
        r_dheld[i] := CASE WHEN a_credit_normal[d] THEN a_dh[d] ELSE a_ch[d] END;
        r_cheld[i] := CASE WHEN a_credit_normal[c] THEN a_dh[c] ELSE a_ch[c] END;
        IF v_pending <> 0 THEN
          a_least[d] := NULL; a_most[d] := NULL; a_least[c] := NULL; a_most[c] := NULL;
        END IF;
        IF c_kind[i] = 'hold' THEN
          h_debit[h] := c_debit[i]; h_credit[h] := c_credit[i]; h_amount[h] := v_pending; h_posted[h] := 0;
          h_remaining[h] := v_pending; h_state[h] := 'open'; h_expires[h] := c_moment[i];
          h_code[h] := c_code[i]; h_reference[h] := c_reference[i]; h_exists[h] := true;
        ELSIF h IS NOT NULL THEN
          h_remaining[h] := h_remaining[h] + v_pending; h_posted[h] := h_posted[h] + v_posted;
          IF h_remaining[h] = 0 THEN
            h_state[h] := CASE c_kind[i] WHEN 'post_hold' THEN 'posted' WHEN 'void_hold' THEN 'voided' ELSE 'expired' END;
          END IF;
        ELSIF t IS NOT NULL THEN
          t_reversed[t] := true;
        END IF;
        k := NULL;
        IF t_id IS NOT NULL THEN
          k := (t_map ->> c_id[i]::text)::int;
        END IF;
        IF k IS NOT NULL THEN
          t_kind[k] := c_kind[i]; t_debit[k] := a_id[d]; t_credit[k] := a_id[c]; t_posted[k] := v_posted;
          t_code[k] := r_code[i]; t_reference[k] := r_reference[i]; t_exists[k] := true; t_reversed[k] := false;
        END IF;
      END IF;
    END IF;
    r_result[i] := v_result;
    IF v_account IS NOT NULL THEN
      r_account[i] := v_account;
    END IF;

    -- A refusal takes back what its chain did before it.
    IF v_result <> 'applied' AND NOT v_failed THEN
      v_failed := true; v_leaf := v_leaf_start;
      FOR u IN REVERSE i - 1 .. v_start LOOP
        IF r_new[u] AND r_old[u] IS NOT NULL THEN
          a_state[r_d[u]] := r_old[u];
        ELSIF r_new[u] THEN
          d := r_d[u]; c := r_c[u];
          a_dp[d] := a_dp[d] - r_posted[u];   a_cp[c] := a_cp[c] - r_posted[u];
          a_dh[d] := a_dh[d] - r_pending[u];  a_ch[c] := a_ch[c] - r_pending[u];
          a_version[d] := a_version[d] - 1;   a_version[c] := a_version[c] - 1;
          a_head[d] := r_dprior[u];           a_head[c] := r_cprior[u];
          r_leaf[u] := NULL;
          IF c_kind[u] = 'hold' THEN
            h_exists[(h_map ->> c_id[u]::text)::int] := false;
          ELSIF c_kind[u] = 'reverse' THEN
            t_reversed[(t_map ->> c_target[u]::text)::int] := false;
          ELSIF c_kind[u] <> 'transfer' THEN
            h := (h_map ->> c_target[u]::text)::int;
            h_remaining[h] := h_remaining[h] - r_pending[u]; h_posted[h] := h_posted[h] - r_posted[u]; h_state[h] := 'open';
          END IF;
          k := (t_map ->> c_id[u]::text)::int;
          IF k IS NOT NULL THEN
            t_exists[k] := false;
          END IF;
        END IF;
        IF r_new[u] OR ((c_first ->> c_id[u]::text)::int BETWEEN v_start AND u - 1 AND NOT p_map ? c_id[u]::text) THEN
          r_result[u] := 'chain_refused'; r_account[u] := NULL;
        END IF;
      END LOOP;
    END IF;
  END LOOP;

  -- Each account in its place and as it was read; a place alone would do for servers that look at it again after a wait, which not
  -- all do. In the order of the ids, which is that of the locks: only a plan that begins with these rows has it, and no index is left
  -- to begin with.
  PERFORM set_config('enable_indexscan', 'off', true);
  UPDATE ledger_accounts a
     SET debits_posted = x.dp, credits_posted = x.cp, debits_pending = x.dh, credits_pending = x.ch, version = x.version,
         state = x.state, head = x.head, booked_at = v_now
    FROM (SELECT unnest(a_at) AS at, unnest(a_dp) AS dp, unnest(a_cp) AS cp, unnest(a_dh) AS dh, unnest(a_ch) AS ch,
                 unnest(a_version) AS version, unnest(a_state) AS state, unnest(a_head) AS head, unnest(a_seen) AS seen,
                 unnest(a_was) AS was) AS x
   WHERE a.ctid = x.at AND a.tenant_id = p_tenant AND a.version = x.seen AND a.state = x.was
     AND (x.version <> x.seen OR x.state <> x.was);
  GET DIAGNOSTICS k = ROW_COUNT;
  PERFORM set_config('enable_indexscan', 'on', true);
  IF k < cardinality(a_id) THEN
    IF k < (SELECT count(*) FROM unnest(a_version, a_seen, a_state, a_was) AS x(version, seen, state, was)
             WHERE x.version <> x.seen OR x.state <> x.was) THEN
      RAISE EXCEPTION 'overtaken' USING ERRCODE = 'CU001';
    END IF;
  END IF;
  -- If another call has taken an id meanwhile, this one starts again (see ledger_post).
  INSERT INTO ledger_commands (tenant_id, id, kind, request_hash, result, account_id, target_id, batch_id, leaf, booked_at)
  SELECT p_tenant, c_id[i], c_kind[i], c_hash[i], r_result[i], r_account[i],
         CASE WHEN c_kind[i] = 'reverse' AND r_result[i] = 'applied' THEN r_target[i] END,
         CASE WHEN r_leaf[i] IS NOT NULL THEN v_batch END, r_leaf[i], v_now
    FROM generate_series(1, c_count) AS i
   WHERE r_new[i] ORDER BY c_id[i];
  IF v_leaf > 0 THEN
    v_micros := extract(epoch FROM v_now) * 1000000;
    -- Each leaf is made of the row as it was stored; then level upon level in place, as custody/ledger/leaves.py describes.
    WITH written AS (
      INSERT INTO ledger_transfers AS w (tenant_id, id, chain_id, kind, code, reference, debit_account, credit_account, posted,
                                         pending, target_id, debit_version, debit_balance, debit_held, credit_version, credit_balance,
                                         credit_held, booked_at, effective_at, batch_id, leaf, debit_prior, credit_prior)
      SELECT p_tenant, x.id, c_id[x.head], x.kind, x.code, x.reference, a_id[x.d], a_id[x.c], x.posted, x.pending, x.target,
             x.dv, x.db, coalesce(x.dheld, a_held[x.d]), x.cv, x.cb, coalesce(x.cheld, a_held[x.c]), v_now,
             CASE WHEN x.kind IN ('transfer', 'post_hold', 'reverse') THEN coalesce(x.moment, v_now) ELSE v_now END, v_batch, x.leaf,
             x.dprior, x.cprior
        FROM (SELECT unnest(c_id) AS id, unnest(c_head) AS head, unnest(c_kind) AS kind, unnest(r_code) AS code,
                     unnest(r_reference) AS reference, unnest(r_d) AS d, unnest(r_c) AS c, unnest(r_posted) AS posted,
                     unnest(r_pending) AS pending, unnest(r_target) AS target, unnest(r_dv) AS dv, unnest(r_db) AS db,
                     unnest(r_dheld) AS dheld, unnest(r_cv) AS cv, unnest(r_cb) AS cb, unnest(r_cheld) AS cheld,
                     unnest(c_moment) AS moment, unnest(r_leaf) AS leaf, unnest(r_dprior) AS dprior, unnest(r_cprior) AS cprior
             ) AS x
       WHERE x.leaf IS NOT NULL
      RETURNING w.leaf, sha256('\x00'::bytea || convert_to(concat_ws('|', 'ledger-transfer-v1', w.tenant_id, w.id, w.chain_id, w.kind,
                  w.code, w.reference, w.debit_account, w.credit_account, w.posted, w.pending, coalesce(w.target_id::text, ''),
                  w.debit_version, w.debit_balance, w.debit_held, w.credit_version, w.credit_balance, w.credit_held, v_micros,
                  CASE w.effective_at WHEN v_now THEN v_micros ELSE (extract(epoch FROM w.effective_at) * 1000000)::bigint END
                ), 'UTF8')) AS hash)
    SELECT array_agg(y.hash ORDER BY y.leaf) INTO v_level FROM written AS y;
    v_size := v_leaf;
    WHILE v_size > 1 LOOP
      FOR u IN 1 .. v_size / 2 LOOP
        v_level[u] := sha256('\x01'::bytea || v_level[2 * u - 1] || v_level[2 * u]);
      END LOOP;
      IF v_size % 2 = 1 THEN
        v_level[v_size / 2 + 1] := v_level[v_size];
      END IF;
      v_size := (v_size + 1) / 2;
    END LOOP;
    INSERT INTO ledger_batches (tenant_id, id, transfers, root, booked_at) VALUES (p_tenant, v_batch, v_leaf, v_level[1], v_now);
    INSERT INTO outbox (tenant_id, id, type, object_id, data)
    VALUES (p_tenant, gen_random_uuid(), 'ledger.posted', c_id[array_position(r_leaf, 0)],
            jsonb_build_object('batch', v_batch, 'transfers', v_leaf));
  END IF;
  IF h_id IS NOT NULL THEN
    UPDATE ledger_holds o
       SET posted = x.posted, remaining = x.remaining, state = x.state, changed_at = v_now
      FROM unnest(h_id, h_posted, h_remaining, h_state) WITH ORDINALITY AS x(id, posted, remaining, state, n)
     WHERE o.tenant_id = p_tenant AND o.id = x.id AND x.n <= h_stored AND o.remaining <> x.remaining;
    INSERT INTO ledger_holds (tenant_id, id, debit_account, credit_account, amount, posted, remaining, state, expires_at, code,
                              reference, booked_at, changed_at)
    SELECT p_tenant, x.id, x.debit, x.credit, x.amount, x.posted, x.remaining, x.state, x.expires, x.code, x.reference, v_now, v_now
      FROM unnest(h_id, h_debit, h_credit, h_amount, h_posted, h_remaining, h_state, h_expires, h_code, h_reference, h_exists)
           WITH ORDINALITY AS x(id, debit, credit, amount, posted, remaining, state, expires, code, reference, made, n)
     WHERE x.n > h_stored AND x.made ORDER BY x.id;
  END IF;

  -- The answers; a repeated command's are those of the transfer that it made, unless that has been archived.
  debit_versions := r_dv; credit_versions := r_cv;
  IF v_clean THEN
    booked_at := ARRAY[v_now]; debit_balances := r_db::text[]; credit_balances := r_cb::text[];
    RETURN;
  END IF;
  results := r_result; accounts := r_account;
  replayed := array_fill(false, ARRAY[c_count]); booked_at := array_fill(NULL::timestamptz, ARRAY[c_count]);
  FOR i IN 1 .. c_count LOOP
    IF r_new[i] THEN
      IF r_result[i] = 'applied' THEN
        booked_at[i] := v_now;
      ELSE
        debit_versions[i] := NULL; credit_versions[i] := NULL; r_db[i] := NULL; r_cb[i] := NULL;
      END IF;
    ELSIF c_kind[i] <> 'open' AND r_result[i] <> 'transfer_exists_different' THEN
      replayed[i] := true;
      k := (p_map ->> c_id[i]::text)::int;
      IF k IS NULL THEN  -- earlier in this very call
        k := (c_first ->> c_id[i]::text)::int;
        booked_at[i] := CASE WHEN r_result[i] = 'applied' THEN v_now END;
        debit_versions[i] := debit_versions[k]; credit_versions[i] := credit_versions[k]; r_db[i] := r_db[k]; r_cb[i] := r_cb[k];
      ELSE
        booked_at[i] := CASE WHEN r_result[i] = 'applied' THEN p_booked[k] END;
        SELECT q.debit_version, q.debit_balance, q.credit_version, q.credit_balance INTO v_made FROM ledger_transfers q
         WHERE q.tenant_id = p_tenant AND q.batch_id = p_batch[k] AND q.leaf = p_leaf[k] AND q.booked_at = p_booked[k];
        debit_versions[i] := v_made.debit_version; r_db[i] := v_made.debit_balance;
        credit_versions[i] := v_made.credit_version; r_cb[i] := v_made.credit_balance;
      END IF;
    END IF;
  END LOOP;
  debit_balances := r_db::text[]; credit_balances := r_cb::text[];
END $$;
