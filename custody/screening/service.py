"""Keep the list of addresses that must not be paid, judge receivers by it, and keep everything that screeners said."""

from __future__ import annotations

from collections.abc import Collection

from custody.audit import service as audit
from custody.chains import address as addresses
from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import ChainId
from custody.kernel.ids import WithdrawalId, derived_uuid
from custody.screening import store
from custody.screening.errors import BadListEntry, NotRefusedNow
from custody.screening.model import LIST, Answer, Finding, ListEntry, Question, Result

_SOURCE_MAX = 200
_NOTE_MAX = 500
_DETAIL_MAX = 500


async def refuse(
    uow: UnitOfWork, actor: str, chain: ChainId, address: str, *, source: str, note: str = ""
) -> ListEntry:
    """Have the list name an account, on all chains of this kind and whatever the tag or memo. Named already, it stays as it is.

    Raises InvalidAddress, UnsupportedChain, BadListEntry.
    """
    return await _say(uow, actor, "refused", chain, address, source=source, note=note)


async def withdraw(
    uow: UnitOfWork, actor: str, chain: ChainId, address: str, *, source: str, note: str = ""
) -> ListEntry:
    """Have the list name it no longer, by a row of its own. Done already, it stays as it is.

    Raises InvalidAddress, UnsupportedChain, BadListEntry, NotRefusedNow when it never was named.
    """
    return await _say(uow, actor, "withdrawn", chain, address, source=source, note=note)


async def list_entries(session: ReadSession, after: int = 0, limit: int = 100) -> list[ListEntry]:
    """Rows of the list, oldest first; what was withdrawn is still there, with the row that says so."""
    return await store.load_entries(session, after, limit)


async def find_refusal(session: ReadSession, question: Question) -> ListEntry | None:
    """The row that refuses the receiver now, if any."""
    last = await store.load_last(session, addresses.namespace(question.chain), question.account)
    return last if last is not None and last.word == "refused" else None


async def judge(uow: UnitOfWork, withdrawal_id: WithdrawalId, question: Question) -> Answer:
    """What the list says of the receiver, kept with the list's version. It always knows."""
    version, refusal = await store.load_judgement(uow, addresses.namespace(question.chain), question.account)
    answer = Answer(
        finding=Finding.CLEAR if refusal is None else Finding.HIT,
        detail="" if refusal is None else f"row {refusal.sequence}: {refusal.source}",
    )
    await store.insert_result(uow, withdrawal_id, LIST, question, answer, list_version=version)
    return answer


async def record(
    uow: UnitOfWork, withdrawal_id: WithdrawalId, screener: str, question: Question, answer: Answer
) -> None:
    """Keep what an outside screener said. An UNKNOWN that says what the one before said is kept once."""
    if answer.finding is Finding.UNKNOWN:
        earlier = await store.load_results(uow, [withdrawal_id])
        if earlier and (earlier[-1].screener, earlier[-1].finding, earlier[-1].detail) == (
            screener,
            answer.finding,
            answer.detail[:_DETAIL_MAX],
        ):
            return
    kept = Answer(finding=answer.finding, detail=answer.detail[:_DETAIL_MAX])
    await store.insert_result(uow, withdrawal_id, screener, question, kept, list_version=None)


async def list_results(session: ReadSession, ids: Collection[WithdrawalId]) -> list[Result]:
    """What was said for some withdrawals, oldest first: one question for a whole page."""
    return await store.load_results(session, ids)


async def _say(
    uow: UnitOfWork, actor: str, word: str, chain: ChainId, address: str, *, source: str, note: str
) -> ListEntry:
    if not source.strip() or len(source) > _SOURCE_MAX or len(note) > _NOTE_MAX:
        raise BadListEntry
    destination = addresses.parse(chain, address)
    namespace = addresses.namespace(chain)
    await uow.lock(f"refused/{uow.tenant}/{namespace}/{destination.account}")
    last = await store.load_last(uow, namespace, destination.account)
    if last is not None and last.word == word:
        return last
    if last is None and word == "withdrawn":
        raise NotRefusedNow(account=destination.account)
    entry = await store.insert_entry(
        uow,
        namespace=namespace,
        account=destination.account,
        word=word,
        source=source,
        note=note,
        actor=actor,
    )
    await audit.record(
        uow,
        actor,
        f"screening.{word}",
        derived_uuid("refused_address", uow.tenant, namespace, destination.account),
        {"row": entry.sequence, "account": entry.account, "source": source, "note": note},
    )
    return entry
