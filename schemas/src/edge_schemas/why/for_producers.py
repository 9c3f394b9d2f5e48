"""Why a job waits, as its producer may know it: nothing of other queues, of operators or of a worker's machine."""

from edge_schemas.admin.why import Cause, CauseCode, WhyAnswer
from edge_schemas.life.model import JobState
from edge_schemas.why.wording import clean
from edge_schemas.wire.base import Instant, Outbound
from edge_schemas.wire.ids import JobId, QueueName

_C = CauseCode
_OF_THE_JOB = frozenset(
    {
        *(_C.DELAYED, _C.BEHIND_GROUP, _C.WAITS_AGAIN, _C.NEVER_STARTED, _C.PARKED),
        *(_C.NOT_PUBLISHED, _C.HELD_BACK, _C.BEHIND_OTHERS, _C.STARTING, _C.RUNS, _C.STOPS, _C.ENDED),
    }
)
"""Their sentences speak of the job, of its queue and of who was granted it: its producer may read all of that."""
_WORKERS = {
    _C.ALL_FULL: "{who} of queue {queue} {are} full; the job starts when a slot becomes free",
    _C.WORKER_PAUSED: "{who} of queue {queue} {are} paused or {drain}; an operator can resume {them}",
    _C.SITE_PAUSED: "{who} of queue {queue} {are} at a site that is paused or drained; an operator can resume it",
    _C.WORKER_OFFLINE: "{who} of queue {queue} {are} offline; the job starts when {one} is back",
    _C.SITE_OFFLINE: "{who} of queue {queue} {are} offline; the job starts when {one} is back",
    _C.WORKER_UNHEALTHY: "{who} of queue {queue} {take} no jobs at the moment; an operator can see why",
    _C.CREDENTIAL_CONFLICT: "{who} of queue {queue} {take} no jobs at the moment; an operator can see why",
    _C.VERSION_REFUSED: "{who} of queue {queue} {take} no jobs at the moment; an operator can see why",
}
_REFUSES = {
    "command": "no commands; the owner of a worker can allow programs with EDGE_WORKER_COMMANDS",
    "payload": "no payloads; start a consumer for the queue",
}
_QUEUE = {
    _C.NO_WORKER: "no worker and no consumer serves queue {queue}; correct the name of the queue, or enrol one for it",
    _C.QUEUE_PAUSED: "queue {queue} is paused; an operator can resume it",
    _C.QUEUE_LIMIT: "queue {queue} runs as many jobs as its settings allow; the job starts when one of them ends",
    _C.TOO_FEW_SLOTS: "fewer slots of queue {queue} are free than jobs come before this one; it starts in its turn",
}


class WaitCause(Outbound):
    """One cause.

    Attributes:
        text: A sentence for people: what it is, and what to do.
    """

    code: CauseCode
    text: str


class WaitAnswer(Outbound):
    """Why a job waits; or, if it does not, where it is.

    Attributes:
        causes: The one that holds the job back most comes first; never empty.
    """

    job: JobId
    queue: QueueName
    state: JobState
    waits_since: Instant | None = None
    causes: tuple[WaitCause, ...]
    as_of: Instant


def told(answer: WhyAnswer, job: str, queue: str, state: JobState, kind: str) -> WaitAnswer:
    """The answer for operators, reduced to what a producer of the queue may know.

    Args:
        answer: About a submitted job.
        job: Its id.
        queue: Its queue.
        state: Its state.
        kind: `command` or `payload`.
    """
    # Workers of several groups have the same sentence: it is told once.
    causes = {one.text: one for one in (WaitCause(code=c.code, text=_text(c, queue, kind)) for c in answer.causes)}
    return WaitAnswer(
        job=job,
        queue=queue,
        state=state,
        waits_since=answer.waits_since,
        causes=tuple(causes.values()),
        as_of=answer.as_of,
    )


def _text(cause: Cause, queue: str, kind: str) -> str:
    code, name = cause.code, clean(queue)
    if code in _OF_THE_JOB:
        return cause.text
    if code in _QUEUE:
        return _QUEUE[code].format(queue=name)
    if code in _WORKERS:
        return _WORKERS[code].format(queue=name, **_words(cause))
    if code is _C.KIND_REFUSED and "workers" not in cause.facts:
        return f"queue {name} does not accept the kind {kind}; choose another queue"
    if code is _C.KIND_REFUSED:
        words = _words(cause)
        return f"{words['who']} of queue {name} {words['accept']} {_REFUSES[kind]}"
    return f"an operator can see why, with 'edge-relay why' and the id of the job ({code})"


def _words(cause: Cause) -> dict[str, str]:
    """How many of the workers, and the words that agree with this number."""
    number, total = len(cause.facts["workers"]), cause.facts["of"]
    is_one = number == 1
    who = f"{number:,} of {total:,} workers" if number != total else "the only worker" if is_one else "all workers"
    return {
        "who": who,
        "are": "is" if is_one else "are",
        "drain": "drains" if is_one else "drain",
        "them": "it" if is_one else "them",
        "one": "it" if is_one else "one of them",
        "take": "takes" if is_one else "take",
        "accept": "accepts" if is_one else "accept",
    }
