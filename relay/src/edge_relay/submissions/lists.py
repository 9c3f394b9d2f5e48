"""Lists of submitted jobs and figures of their queues: unfinished jobs from memory, ended ones from their index."""

import base64
import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import orjson

from edge_broker.ended_index import EndedIndex
from edge_relay.desired.state import DesiredState
from edge_relay.dispatch.state.watched_job import WatchedJob, WatchedTerms
from edge_relay.submissions.known_jobs import KnownJobs
from edge_schemas.life.model import JobState, Outcome
from edge_schemas.producers.queries import JobsQuery
from edge_schemas.producers.submissions import JobStatus, JobStatusPage, QueueStatus
from edge_schemas.wire.errors import EdgeError, ErrorCode

SiteOf = Callable[[str], str | None]
"""The site of a worker."""
OnScanned = Callable[[int], None]
"""Called with the number of jobs that a call looks through."""
SortKey = Callable[[WatchedJob], tuple[float, str]]
Label = tuple[str, str]


_START = (-1.0, "")


class _Part(StrEnum):
    """The parts of a list, one after the other."""

    UNFINISHED = "u"
    ENDED = "e"
    """Their records have not been moved: the index does not have them yet."""
    INDEX = "i"


@dataclass(frozen=True, slots=True)
class _Cursor:
    """Where a page begins: in which part, and there behind a job or behind a sequence of the index."""

    part: _Part
    behind: tuple[float, str] = _START
    sequence: int = 0


class SubmittedLists:
    """Lists and figures for producers.

    Args:
        known: What the watch of the records shows.
        index: Of ended jobs.
        desired: Whether a queue is paused.
        site_of: The site of a worker.
    """

    def __init__(self, known: KnownJobs, index: EndedIndex, desired: DesiredState, site_of: SiteOf) -> None:
        self._known = known
        self._index = index
        self._desired = desired
        self._site_of = site_of

    async def page(self, queue: str, query: JobsQuery, on_scanned: OnScanned) -> JobStatusPage:
        """Jobs of a queue: unfinished ones in the order of their submission, then ended ones in that of their ends.

        A job that ends between two pages may be in both.

        Raises:
            EdgeError: `invalid_request`: the cursor is none of this list.
            BrokerUnavailable: Unfinished jobs are not known yet, or the ended jobs can't be read.
        """
        self._known.check()
        cursor = _Cursor(_Part.UNFINISHED) if query.after is None else _decode(query.after)
        label = None if query.label is None else _label(query.label)
        found: list[JobStatus] = []
        if cursor.part is _Part.UNFINISHED:
            if query.state is not JobState.ENDED:
                jobs = self._known.unfinished(queue)
                on_scanned(len(jobs))
                matching = (job for job in jobs if _matches(job, label, query.state))
                if (behind := self._add(found, matching, _submitted, cursor, query.limit)) is not None:
                    return JobStatusPage(jobs=tuple(found), next=_encode(_Cursor(_Part.UNFINISHED, behind)))
            cursor = _Cursor(_Part.ENDED)
        if query.state not in {None, JobState.ENDED}:
            return JobStatusPage(jobs=tuple(found))
        ended = self._known.ended(queue)
        if cursor.part is _Part.ENDED:
            on_scanned(len(ended))
            matching = (job for job in ended if _matches(job, label, None))
            if (behind := self._add(found, matching, _ended, cursor, query.limit)) is not None:
                return JobStatusPage(jobs=tuple(found), next=_encode(_Cursor(_Part.ENDED, behind)))
            cursor = _Cursor(_Part.INDEX)
        if len(found) == query.limit:
            return JobStatusPage(jobs=tuple(found), next=_encode(cursor))
        recent = {job.id for job in ended}
        page = await self._index.page(queue, label, after=cursor.sequence, limit=query.limit - len(found))
        found += [self._with_site(status) for status in page.jobs if status.job not in recent]
        following = _encode(_Cursor(_Part.INDEX, sequence=page.last)) if page.more else None
        return JobStatusPage(jobs=tuple(found), next=following)

    def _add(
        self, found: list[JobStatus], jobs: Iterable[WatchedJob], key: SortKey, cursor: _Cursor, limit: int
    ) -> tuple[float, str] | None:
        """Fill a page with jobs from memory; returns the last one's key if there are more."""
        page = heapq.nsmallest(limit + 1, (job for job in jobs if key(job) > cursor.behind), key=key)
        found += map(self._status, page[:limit])
        return key(page[limit - 1]) if len(page) > limit else None

    def _with_site(self, status: JobStatus) -> JobStatus:
        site = None if status.worker is None else self._site_of(status.worker)
        return status.model_copy(update={"site": site})

    def figures(self, queue: str, on_scanned: OnScanned) -> QueueStatus:
        """The figures of a queue.

        Raises:
            BrokerUnavailable: Unfinished jobs are not known yet.
        """
        self._known.check()
        jobs, now = self._known.unfinished(queue), datetime.now(UTC).timestamp()
        on_scanned(len(jobs))
        first = _first_of_groups(jobs)
        waiting = delayed = running = parked = 0
        oldest: float | None = None
        for job in jobs:
            if job.state is not JobState.WAITING:
                running += 1
            elif job.is_parked:
                parked += 1
            elif _is_delayed(job, first, now):
                delayed += 1
            else:
                waiting += 1
                oldest = job.waits_since if oldest is None else min(oldest, job.waits_since)
        return QueueStatus(
            queue=queue,
            waiting=waiting,
            delayed=delayed,
            running=running,
            parked=parked,
            oldest_wait_s=None if oldest is None else max(0.0, now - oldest),
            is_paused=self._desired.is_paused(None, queue),
        )

    def _status(self, job: WatchedJob) -> JobStatus:
        terms = job.terms
        assert terms is not None  # noqa: S101  # `KnownJobs` holds no others
        return JobStatus(
            job=job.id,
            queue=job.queue,
            kind=terms.kind,
            name=terms.name,
            producer=terms.producer,
            state=job.state,
            attempt=job.attempt,
            max_attempts=terms.max_attempts,
            on_lost=terms.on_lost,
            priority=terms.priority,
            parked=job.parked,
            group=terms.group,
            labels=terms.labels,
            submitted_at=_moment(job.created_at),
            not_before=None if job.not_before is None else _moment(job.not_before),
            expires_at=None if terms.expires_at is None else _moment(terms.expires_at),
            worker=job.holder,
            site=None if job.holder is None else self._site_of(job.holder),
            started_at=None if job.started_at is None else _moment(job.started_at),
            outcome=_outcome(job),
        )


def _outcome(job: WatchedJob) -> Outcome | None:
    ending = job.ending
    if ending is None:
        return None
    return Outcome(
        verdict=ending.verdict, reason=ending.reason, exit_code=ending.exit_code, ended_at=_moment(ending.at)
    )


def _matches(job: WatchedJob, label: Label | None, state: JobState | None) -> bool:
    terms: WatchedTerms | None = job.terms
    is_labelled = label is None or (terms is not None and terms.labels.get(label[0]) == label[1])
    return is_labelled and (state is None or job.state is state)


def _first_of_groups(jobs: Iterable[WatchedJob]) -> dict[str, tuple[float, str]]:
    """The job of each group whose turn it is; a parked job holds up no other."""
    first: dict[str, tuple[float, str]] = {}
    for job in jobs:
        group = None if job.terms is None else job.terms.group
        if group is not None and not job.is_parked:
            first[group] = min(first.get(group, (float("inf"), "")), (job.created_at, job.id))
    return first


def _is_delayed(job: WatchedJob, first: dict[str, tuple[float, str]], now: float) -> bool:
    group = None if job.terms is None else job.terms.group
    is_behind = group is not None and first[group] < (job.created_at, job.id)
    return is_behind or (job.not_before is not None and job.not_before > now)


def _submitted(job: WatchedJob) -> tuple[float, str]:
    return job.created_at, job.id


def _ended(job: WatchedJob) -> tuple[float, str]:
    return (0.0 if job.ending is None else job.ending.at), job.id


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _label(text: str) -> Label:
    key, _, value = text.partition("=")
    return key, value


def _encode(cursor: _Cursor) -> str:
    raw = orjson.dumps([cursor.part, *cursor.behind, cursor.sequence])
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> _Cursor:
    try:
        found = orjson.loads(base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_"))
    except ValueError:
        found = None
    match found:
        case ["u" | "e" | "i" as part, float() | int() as at, str(job), int(sequence)] if 0 <= sequence < 1 << 62:
            return _Cursor(_Part(part), (at, job), sequence)
    text = "after: must be `next` of an earlier page of this list; leave it out for the first page"
    raise EdgeError(ErrorCode.INVALID_REQUEST, text)
