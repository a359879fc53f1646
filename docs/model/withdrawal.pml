/* A withdrawal from request to settlement, with everything that may go wrong in between, for the model checker spin.
 *
 * Modelled: two withdrawals out of one vault or channel. A requester who cancels at any moment, a screener who clears or blocks, approvers
 * who approve or veto, a cool-down or none, a clock, a sweeper.
 * Two workers, which may stop between any two lines and forget, or go on much later with what they remember. A signer that journals
 * before it signs, and whose answers may be lost. A network that includes sent bytes whenever it likes, or never, and to which anybody
 * may send again what was sent once. A chain whose newest block may be replaced (EVM), or whose transactions have a last possible ledger
 * (STELLAR). Our own ingestion, somewhere behind.
 *
 * With HOSTILE, the requester has a way to the signer itself: any slot, any bound, at any moment, with the approvals that exist; and it
 * sends what it gets. What people have approved is given up by our side only once the signer has journaled that it never signs it.
 *
 * Claimed of every reachable state: no intent has two effects; no hold is released of a withdrawal that is paid, none posted of one that
 * is not.
 *
 * Every transition names the function that implements it and the events of `custody/withdrawals/transitions.py`, as `= MODULE:NAME (EVENT)`;
 * a test looks them up. `make model` runs all forms, and breaks
 * one rule at a time (BAD_...) to see that spin notices.
 */

#define NONE 15
#ifndef HEIGHTS
#define HEIGHTS 4               /* blocks of the whole history, at most 4 */
#endif
#define ATTEMPTS 2              /* a withdrawal's, at most */
#ifdef STELLAR
#define SLOTS 2
#define VALID 2                 /* ledgers from what we have ingested to the last possible one */
#define BURIED 0                /* a closed ledger is final */
#else
#define SLOTS 3
#define BURIED 1                /* the newest block may be replaced */
#endif

mtype:state = { screening, blocked, awaiting, approved, cooling, signing, broadcasting, confirming, settled, failed, rejected, expired, cancelled }
mtype:hold = { held, released, posted }
mtype:attempt = { idle, reserved, stored, included, done, refused, lapsed }
mtype:answer = { nothing, bytes, slot_used, already_bound, denied }

/* Postgres: each withdrawal, its hold, its newest attempt; what ingestion has booked. */
mtype:state state[2] = screening;
mtype:hold hold[2] = held;
mtype:attempt attempt[2] = idle;
byte slot[2] = NONE;            /* sequence or nonce */
byte last[2] = NONE;            /* last possible ledger */
byte attempts[2];
byte cursor;
byte kept[5] = NONE;

/* What approvers signed; whether the intent's window has closed. */
bool quorum[2];
bool veto[2];
bool closed[2];

/* The signer's journal: for each intent one slot and bound, for good; or that it is given up, for good. */
byte bound[2] = NONE;
byte until[2] = NONE;
bool dead[2];

/* The chain: which withdrawal's transaction each block holds; the next slot; what anybody may send. */
byte height;
byte block[5] = NONE;
byte next;
byte peak;                      /* the greatest height ever; what lies deeper than BURIED below it is never replaced */
bool sent[2];

#define effects(i) ((block[1] == i) + (block[2] == i) + (block[3] == i) + (block[4] == i))
#define booked(i) (kept[1] == i || kept[2] == i || kept[3] == i || kept[4] == i)
#define buried(i) ((kept[1] == i && cursor >= 1 + BURIED) || (kept[2] == i && cursor >= 2 + BURIED) || \
                   (kept[3] == i && cursor >= 3 + BURIED) || (kept[4] == i && cursor >= 4 + BURIED))
#define ready(i) (state[i] == approved || state[i] == cooling)
#define asked(i) (state[i] == awaiting || ready(i))
#define open(i) (state[i] == screening || asked(i))
#define nothing_out(i) (attempt[i] == idle || attempt[i] == refused)
#define holds_slot(i) (attempt[i] == reserved || attempt[i] == stored || attempt[i] == included || attempt[i] == done)
#define in_flight(i) (attempt[i] == reserved || attempt[i] == stored || attempt[i] == included)
#define standing (cursor <= height && (cursor == 0 || kept[cursor] == block[cursor]))

#define once (effects(0) <= 1 && effects(1) <= 1)
#define honest(i) (!(hold[i] == released && effects(i) > 0) && !(hold[i] == posted && effects(i) == 0))

ltl safe { [] (once && honest(0) && honest(1)) }

/* Whoever gives up what people have approved tells the signer first, in a step of its own; should nothing follow, the signer refuses it.
 * = custody.withdrawals.voids:void
 */
#ifdef BAD_VOID
#define given_up(i) open(i)
#define told(i) true
#else
#define told(i) dead[i]
#define given_up(i) (state[i] == screening || state[i] == awaiting || (ready(i) && dead[i]))
#endif

/* The request is one transaction; where the tenant's list knows and nobody else is asked, it goes on to approvers or is blocked within it.
 * An operation of a vault on itself begins where approvers are asked. A cool-down only delays, so that its end needs no event.
 * = custody.withdrawals.clearance:write
 * = custody.withdrawals.clearance:screen (screen)
 * = custody.withdrawals.drafts:begin (exempt)
 * = custody.withdrawals.clearance:ask (clear, block)
 * = custody.withdrawals.clearance:block_refused (block)
 * = custody.withdrawals.voids:cancel
 * = custody.withdrawals.service:cancel (cancel)
 * = custody.withdrawals.voids:reject
 * = custody.withdrawals.service:decide (reject)
 * = custody.withdrawals.cooling:approve (approve, cool)
 * = custody.withdrawals.voids:expire_due
 * = custody.withdrawals.service:expire_due (expire)
 */
#ifdef BAD_CANCEL
#define cancellable(i) (given_up(i) || state[i] == broadcasting)
#else
#define cancellable(i) given_up(i)
#endif
#define PEOPLE(i) \
  :: atomic { (ready(i) && !dead[i] && bound[i] == NONE) -> dead[i] = true } \
  :: atomic { cancellable(i) -> state[i] = cancelled; hold[i] = released } \
  :: atomic { (state[i] == screening) -> state[i] = awaiting } \
  :: atomic { (given_up(i) && state[i] != awaiting) -> state[i] = blocked; hold[i] = released } \
  :: atomic { (state[i] == awaiting) -> quorum[i] = true; state[i] = approved } \
  :: atomic { (state[i] == awaiting) -> quorum[i] = true; state[i] = cooling } \
  :: atomic { (given_up(i) && state[i] != screening) -> veto[i] = true; state[i] = rejected; hold[i] = released } \
  :: atomic { !closed[i] -> closed[i] = true } \
  :: atomic { (given_up(i) && closed[i]) -> state[i] = expired; hold[i] = released }

active proctype People() {
end:
  do
  PEOPLE(0)
  PEOPLE(1)
  od
}

/* The signer: one decision after another, in the journal before any bytes leave. Asked again, it gives the same bytes.
 * = signer.decide:Decider.sign
 * = signer.voids:void_intent
 * = signer.slots:check_slot
 */
inline sign(i, s, m, answer) {
  if
  :: (bound[i] == s && until[i] == m) -> answer = bytes
#ifndef BAD_JOURNAL
  :: ((bound[i] != s || until[i] != m) && bound[i] != NONE) -> answer = already_bound
#endif
  :: else ->
     if
     :: (!quorum[i] || veto[i] || closed[i] || dead[i]) -> answer = denied
#ifdef STELLAR
     /* A slot is free again once its bytes can be valid no more. */
     :: (quorum[i] && !veto[i] && !closed[i] && !dead[i] && bound[1 - i] == s && height < until[1 - i]) -> answer = slot_used
#else
     :: (quorum[i] && !veto[i] && !closed[i] && !dead[i] && bound[1 - i] == s) -> answer = slot_used
#endif
     :: else -> bound[i] = s; until[i] = m; answer = bytes
     fi
  fi
}

/* A worker: it looks, does one step, and forgets. What it has looked at may be old when it acts; an answer may never reach it. To stop
 * before a step is to take it later, or never. */
#define DUE(w) \
  :: atomic { (ready(w) || (state[w] == signing && nothing_out(w))) -> i = w; s = next; goto reserve } \
  :: atomic { (state[w] == signing && attempt[w] == reserved) -> i = w; s = slot[w]; m = last[w]; n = attempts[w]; goto ask } \
  :: atomic { (state[w] == broadcasting && !sent[w]) -> i = w; goto send }
#ifdef HOSTILE
#define WORKERS 1               /* whatever a second one could do, the requester does */
#else
#define WORKERS 2
#endif

active [WORKERS] proctype Worker() {
  byte i; byte s; byte m; byte n; mtype:answer answer = nothing;
end:
  do
  DUE(0)
  DUE(1)
  od;

  /* It has asked the node; now it writes, in a transaction that looks at everything again.
   * = custody.withdrawals.execution:_reserve (reserve)
   * = custody.withdrawals.execution:_close (refuse)
   */
reserve:
  atomic {
    if
    :: (closed[i] && state[i] == signing && nothing_out(i) && bound[i] == NONE) -> dead[i] = true
    :: else
    fi
  };
  atomic {
    if
    :: (closed[i] && state[i] == signing && nothing_out(i) && told(i)) -> state[i] = failed; hold[i] = released
    :: (!closed[i] && (ready(i) || state[i] == signing) && nothing_out(i) && attempts[i] < ATTEMPTS) ->
#ifdef STELLAR
       /* = custody.withdrawals.slots_stellar:choose_stellar */
       m = cursor + VALID;
       if
       :: (in_flight(1 - i) || (holds_slot(1 - i) && slot[1 - i] == s)) -> goto again
       :: else
       fi;
#else
       /* = custody.withdrawals.evm_slots:choose_evm */
       m = NONE;
       do
       :: (holds_slot(1 - i) && slot[1 - i] == s) || (attempt[i] == refused && slot[i] == s) -> s++
       :: else -> break
       od;
#endif
       if
       :: (s < SLOTS) -> slot[i] = s; last[i] = m; attempt[i] = reserved; attempts[i]++; state[i] = signing
       :: else
       fi
    :: else
    fi
  };
  goto again;

  /* = custody.withdrawals.execution:_sign */
ask:
  atomic { sign(i, s, m, answer) };
  if
  :: (answer == bytes) ->
     /* = custody.withdrawals.execution:_store_bytes (sign) */
     atomic {
       if
       :: (state[i] == signing && attempt[i] == reserved && attempts[i] == n) ->
          if
          :: booked(i) -> attempt[i] = included; state[i] = confirming   /* = custody.withdrawals.settlement:claim_stray (include) */
          :: else -> attempt[i] = stored; state[i] = broadcasting
          fi
       :: else
       fi
     }
  :: (answer == slot_used) ->
     /* = custody.withdrawals.execution:_refused (refuse) */
     atomic {
       if
       :: (state[i] == signing && attempt[i] == reserved && attempts[i] == n) -> attempt[i] = refused
       :: else
       fi
     }
  :: (answer == denied) ->
     /* A refusal of today is no promise: it is made one, and only then counts. */
     atomic {
       if
       :: (bound[i] == NONE) -> dead[i] = true
       :: (bound[i] != NONE && told(i))
       :: else -> goto again
       fi
     };
     atomic {
       if
       :: (state[i] == signing && attempt[i] == reserved && attempts[i] == n) ->
          attempt[i] = refused; state[i] = failed; hold[i] = released
       :: else
       fi
     }
  :: (answer == already_bound)                    /* a person has to look; the hold stays */
  :: goto again                                   /* the answer is lost */
  fi;
  goto again;

  /* Whatever the node answers is only noted.
   * = custody.withdrawals.execution:_send
   */
send:
  sent[i] = true;
#ifdef BAD_RETRY
  /* No answer in time is taken for a failure. */
  atomic {
    if
    :: (state[i] == broadcasting) -> state[i] = failed; hold[i] = released
    :: else
    fi
  };
#endif
#ifdef BAD_RENEWAL
  /* No answer in time: the same intent is tried in another slot. */
  atomic {
    if
    :: (state[i] == broadcasting && attempts[i] < ATTEMPTS) -> attempt[i] = refused; state[i] = signing
    :: else
    fi
  };
#endif
again:
  atomic { i = 0; s = 0; m = 0; n = 0; answer = nothing; goto end }
}

#ifdef HOSTILE
#ifdef STELLAR
#define ANY HEIGHTS             /* another bound than our side ever asks for */
#else
#define ANY NONE
#endif
#define ASKS(i, s) \
  :: atomic { (bound[i] == NONE || !sent[i]) -> sign(i, s, ANY, answer); sent[i] = (answer == bytes || sent[i]); answer = nothing }

active proctype Hostile() {
  mtype:answer answer = nothing;
end:
  do
  ASKS(0, 0)
  ASKS(0, 1)
  ASKS(1, 0)
  ASKS(1, 1)
  od
}
#endif

/* What fails on chain takes its slot and fee and pays nothing: it is left out here, since its hold is released by the same proof.
 *
 * Includes what was sent, in the order of slots, until its bound; or nothing. */
#ifdef STELLAR
#define includable(i) (sent[i] && bound[i] == next && height < until[i] && height < HEIGHTS)
#else
#define includable(i) (sent[i] && bound[i] == next && height < HEIGHTS)
#endif
inline rise() {
  if
  :: (height > peak) -> peak = height
  :: else
  fi
}

active proctype Chain() {
end:
  do
  :: atomic { (height < HEIGHTS) -> height++; rise() }
  :: atomic { includable(0) -> height++; block[height] = 0; next++; rise() }
  :: atomic { includable(1) -> height++; block[height] = 1; next++; rise() }
#ifndef STELLAR
  :: atomic { (height > 0 && height == peak && block[height] == NONE) -> height-- }
  :: atomic { (height > 0 && height == peak && block[height] != NONE) -> block[height] = NONE; height--; next-- }
#endif
  od
}

/* One block after another; only what is final decides.
 * = custody.withdrawals.settlement:observe_transaction (include)
 * = custody.withdrawals.settlement:orphan_above (orphan)
 * = custody.withdrawals.settlement:find_final
 * = custody.withdrawals.settlement:end (settle, fail, lapse)
 */
#ifdef BAD_LAPSE
#define passed(i) (height >= last[i])
#else
#define passed(i) (cursor >= last[i])
#endif
#define FINAL(i) \
  :: atomic { (standing && state[i] == confirming && buried(i)) -> attempt[i] = done; state[i] = settled; hold[i] = posted } \
  :: atomic { (state[i] == broadcasting && passed(i)) -> attempt[i] = lapsed; state[i] = failed; hold[i] = released }

active proctype Ingestion() {
end:
  do
  :: atomic {
       (standing && cursor < height) ->
       cursor++; kept[cursor] = block[cursor];
       if
       :: (kept[cursor] == 0 && state[0] == broadcasting) -> attempt[0] = included; state[0] = confirming
       :: (kept[cursor] == 1 && state[1] == broadcasting) -> attempt[1] = included; state[1] = confirming
       :: else                                    /* empty, or nobody explains it: a stray */
       fi
     }
  :: atomic {
       !standing ->
       if
       :: (kept[cursor] == 0 && state[0] == confirming) -> attempt[0] = stored; state[0] = broadcasting
       :: (kept[cursor] == 1 && state[1] == confirming) -> attempt[1] = stored; state[1] = broadcasting
       :: else
       fi;
       kept[cursor] = NONE; cursor--
     }
  FINAL(0)
  FINAL(1)
  od
}
