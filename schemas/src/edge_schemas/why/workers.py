"""Why none of the workers of a queue takes a job: each worker belongs to one group, and each group is a cause."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from edge_schemas.admin.why import Cause, CauseCode
from edge_schemas.life.versions import runtime_mismatch
from edge_schemas.why.facts import ServingWorker
from edge_schemas.why.wording import (
    MAX_NAMED,
    cause,
    clean,
    counted,
    earliest,
    listed,
    moment,
    order_text,
    since_text,
)
from edge_schemas.wire.workers import WorkerState

_C = CauseCode
_RANKS = (
    _C.SITE_PAUSED,
    _C.WORKER_PAUSED,
    _C.SITE_OFFLINE,
    _C.WORKER_OFFLINE,
    _C.CREDENTIAL_CONFLICT,
    _C.WORKER_UNHEALTHY,
    _C.VERSION_REFUSED,
    _C.KIND_REFUSED,
    _C.ALL_FULL,
)
"""Between groups of the same size: what an operator must act upon comes before what passes by itself."""
_Group = tuple[ServingWorker, ...]


@dataclass(frozen=True, slots=True)
class Needs:
    """What a worker must fulfil to run a job.

    Attributes:
        queue: The queue's name, for texts.
        airflow: The centre's version; None if the job names none.
        kind: Of a job that is no task; None for a task.
    """

    queue: str
    airflow: str | None = None
    kind: str | None = None


def able(workers: Sequence[ServingWorker], needs: Needs) -> _Group:
    """The workers that could take the job now."""
    return tuple(worker for worker in workers if _obstacle(worker, needs) is None)


def obstacles(workers: Sequence[ServingWorker], needs: Needs, now: datetime) -> list[Cause]:
    """A cause for each group of workers that can't take the job; the one that holds back most workers comes first."""
    groups: dict[CauseCode, list[ServingWorker]] = {}
    for worker in sorted(workers, key=lambda one: one.name):
        if (code := _obstacle(worker, needs)) is not None:
            groups.setdefault(code, []).append(worker)
    total = len(workers)
    found: list[tuple[int, int, Cause]] = []
    for code, group in groups.items():
        for part, text in _TEXTS[code](tuple(group), needs, total, now):
            found.append((-len(part), _RANKS.index(text.code), text))
    found.sort(key=lambda one: one[:2])
    return [one for _, _, one in found]


def _obstacle(worker: ServingWorker, needs: Needs) -> CauseCode | None:
    """Why this worker can't take the job now, the most lasting reason first; None if it can."""
    if worker.state in {WorkerState.OFFLINE, WorkerState.NEVER_SEEN}:
        return _C.WORKER_OFFLINE
    if worker.order is not None:
        return _C.SITE_PAUSED if worker.order_of_site else _C.WORKER_PAUSED
    if worker.state in {WorkerState.PAUSED, WorkerState.DRAINING}:
        return _C.WORKER_PAUSED
    if worker.state is WorkerState.CONFLICT:
        return _C.CREDENTIAL_CONFLICT
    if worker.state is WorkerState.UNHEALTHY or worker.no_jobs_reason:
        return _C.WORKER_UNHEALTHY
    if needs.kind is not None and needs.kind not in {*worker.auxiliary, *worker.kinds}:
        return _C.KIND_REFUSED
    if needs.kind is None and "task" not in worker.kinds:
        return _C.KIND_REFUSED
    if needs.kind is None and runtime_mismatch(worker.airflow, needs.airflow) is not None:
        return _C.VERSION_REFUSED
    return _C.ALL_FULL if worker.free <= 0 else None


_Parts = Iterator[tuple[_Group, Cause]]


def _full(group: _Group, needs: Needs, total: int, now: datetime) -> _Parts:
    names = [f"{one.name}: {max(one.slots - one.free, 0)} of {one.slots}" for one in group]
    busy = [job.name for one in group for job in one.running]
    since = earliest(_full_since(one) for one in group)
    with_what = f", busy with {listed(busy)}" if busy else ""
    text = (
        f"{_share(group, total, needs.queue)} {_are(group)} full ({listed(names)}){since_text(since, now)}{with_what}; "
        "it starts when a slot becomes free, or add slots or workers"
    )
    yield group, cause(_C.ALL_FULL, text, since, workers=_names(group), of=total, busy=busy[:MAX_NAMED])


def _full_since(worker: ServingWorker) -> datetime | None:
    """The last job that it started has filled it."""
    return max((job.since for job in worker.running), default=None)


def _paused(group: _Group, needs: Needs, total: int, now: datetime) -> _Parts:
    """Workers that share an order are named together."""
    for _, one_order in groupby(sorted(group, key=_by_order), key=_by_order):
        part = tuple(one_order)
        order = part[0].order
        if order is None:
            does = "drain and exit; start the agent again" if _drains(part[0]) else "are paused; resume them"
            text = f"{_share(part, total, needs.queue)}, by their own report, {does} ({listed(_names(part))})"
            yield part, cause(_C.WORKER_PAUSED, text, workers=_names(part), of=total)
            continue
        text = f"{_share(part, total, needs.queue)} {_are(part)} {order_text(order, now)} ({listed(_names(part))})"
        yield (
            part,
            cause(
                _C.WORKER_PAUSED, text, order.since, workers=_names(part), of=total, by=order.by, reason=order.reason
            ),
        )


def _site_paused(group: _Group, needs: Needs, total: int, now: datetime) -> _Parts:
    for site, of_site in _by_site(group):
        order = of_site[0].order
        what = "paused" if order is None else order_text(order, now)
        since = None if order is None else order.since
        text = f"Site {site} is {what}; {_share(of_site, total, needs.queue, 'belong')} to it"
        by, reason = (None, None) if order is None else (order.by, order.reason)
        yield (
            of_site,
            cause(_C.SITE_PAUSED, text, since, site=site, workers=_names(of_site), of=total, by=by, reason=reason),
        )


def _offline(group: _Group, needs: Needs, total: int, now: datetime) -> _Parts:
    """Several workers of one site that are all gone are one cause: their uplink is lost."""
    single: list[ServingWorker] = []
    for site, of_site in _by_site(tuple(one for one in group if one.last_poll_at is not None)):
        if len(of_site) == 1:
            single += of_site
            continue
        since = earliest(one.last_poll_at for one in of_site)
        text = (
            f"Site {site} is offline{since_text(since, now)}: {counted(len(of_site), 'worker')} of queue "
            f"{clean(needs.queue)} there do not answer ({listed(_names(of_site))}); check the site's uplink"
        )
        yield of_site, cause(_C.SITE_OFFLINE, text, since, site=site, workers=_names(of_site), of=total)
    if single:
        since = earliest(one.last_poll_at for one in single)
        names = [f"{one.name} since {moment(one.last_poll_at, now)}" for one in single if one.last_poll_at is not None]
        text = (
            f"{_share(single, total, needs.queue)} {_are(single)} offline ({listed(names)}); "
            "check the machine, its network and its agent"
        )
        yield tuple(single), cause(_C.WORKER_OFFLINE, text, since, workers=_names(single), of=total)
    if never := tuple(one for one in group if one.last_poll_at is None):
        text = (
            f"{_share(never, total, needs.queue)} {'has' if len(never) == 1 else 'have'} never polled since enrolment "
            f"({listed(_names(never))}); start the agent with 'edge-worker run'"
        )
        yield never, cause(_C.WORKER_OFFLINE, text, workers=_names(never), of=total)


def _conflict(group: _Group, needs: Needs, total: int, now: datetime) -> _Parts:
    since = earliest(one.conflict_since for one in group)
    text = (
        f"{_share(group, total, needs.queue)} {_are(group)} in a credential conflict ({listed(_names(group))})"
        f"{since_text(since, now)}: two agents use one credential; decide which one stays (action 'resolve')"
    )
    yield group, cause(_C.CREDENTIAL_CONFLICT, text, since, workers=_names(group), of=total)


def _unhealthy(group: _Group, needs: Needs, total: int, _now: datetime) -> _Parts:
    names = [f"{one.name}: {clean(one.no_jobs_reason or 'no reason reported')}" for one in group]
    text = f"{_share(group, total, needs.queue)} {_are(group)} not healthy and take no jobs ({listed(names)})"
    if len(group) == 1:
        text = text.replace("take no jobs", "takes no jobs", 1)
    yield group, cause(_C.WORKER_UNHEALTHY, text, workers=_names(group), of=total)


def _version(group: _Group, needs: Needs, total: int, _now: datetime) -> _Parts:
    names = [f"{one.name}: {one.airflow}" for one in group]
    text = (
        f"{_share(group, total, needs.queue)} {_have(group)} a runtime that is newer than the centre's Airflow "
        f"{clean(needs.airflow or '')} ({listed(names)}); run 'edge-worker runtime install' there"
    )
    yield group, cause(_C.VERSION_REFUSED, text, workers=_names(group), of=total, airflow=needs.airflow)


def _kind(group: _Group, needs: Needs, total: int, _now: datetime) -> _Parts:
    kind = needs.kind or "task"
    text = (
        f"{_share(group, total, needs.queue)} {_do(group)} not accept jobs of the kind {kind} "
        f"({listed(_names(group))}); {_KIND_ADVICE.get(kind, 'set EDGE_WORKER_AUXILIARY_JOBS on a worker')}"
    )
    yield group, cause(_C.KIND_REFUSED, text, workers=_names(group), of=total, kind=kind)


_KIND_ADVICE = {
    "task": "start a worker with an Airflow runtime for the queue",
    "command": "allow commands on a worker of the queue",
    "payload": "start a consumer for the queue that accepts payloads",
}


_TEXTS = {
    _C.ALL_FULL: _full,
    _C.WORKER_PAUSED: _paused,
    _C.SITE_PAUSED: _site_paused,
    _C.WORKER_OFFLINE: _offline,
    _C.CREDENTIAL_CONFLICT: _conflict,
    _C.WORKER_UNHEALTHY: _unhealthy,
    _C.VERSION_REFUSED: _version,
    _C.KIND_REFUSED: _kind,
}


def _share(group: Sequence[ServingWorker], total: int, queue: str, verb: str = "") -> str:
    """How many of the queue's workers; a verb follows in the number of the group."""
    name = clean(queue)
    said = "" if not verb else f" {verb}{'s' if len(group) == 1 else ''}"
    if len(group) == total:
        return ("The only worker" if total == 1 else f"All {total:,} workers") + f" of queue {name}{said}"
    return f"{len(group):,} of {total:,} workers of queue {name}{said}"


def _are(group: Sequence[ServingWorker]) -> str:
    return "is" if len(group) == 1 else "are"


def _have(group: Sequence[ServingWorker]) -> str:
    return "has" if len(group) == 1 else "have"


def _do(group: Sequence[ServingWorker]) -> str:
    return "does" if len(group) == 1 else "do"


def _names(group: Sequence[ServingWorker]) -> list[str]:
    return [one.name for one in group]


def _by_order(worker: ServingWorker) -> str:
    return worker.state if worker.order is None else worker.order.model_dump_json()


def _drains(worker: ServingWorker) -> bool:
    return worker.state is WorkerState.DRAINING


def _by_site(group: _Group) -> Iterator[tuple[str, _Group]]:
    for site, of_site in groupby(sorted(group, key=lambda one: (one.site, one.name)), key=lambda one: one.site):
        yield site, tuple(of_site)
