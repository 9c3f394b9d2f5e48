"""Decides whether a call may use what it names, by the policies of its job's queue and of its worker's site."""

import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

import structlog
from prometheus_client import CollectorRegistry

from edge_bridge.keeper.dispatch import Dispatched
from edge_bridge.keeper.policy.access_counter import AccessCounter
from edge_bridge.keeper.policy.figures import PolicyFigures
from edge_bridge.keeper.policy.policy_view import PolicyView, unknown
from edge_bridge.keeper.policy.uses import Use
from edge_broker.connection.broker import Broker
from edge_schemas.life.model import JobRecord
from edge_schemas.policies.accesses import AccessOutcome
from edge_schemas.policies.patterns import literal
from edge_schemas.policies.policy import PolicyMode, PolicyTarget
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.worker_entry import WorkerEntry

log = structlog.get_logger(__name__)

MAX_EVENTS = 20
"""Log events about denied calls in `EVENTS_S`; the next event has the number of those that were left out."""
EVENTS_S = 60.0
_SHOWN_CHARS = 200
LastPoll = Callable[[str], WorkerEntry | None]
"""The last poll of a worker; None if the worker is not known."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a call is judged as.

    Attributes:
        queue: As Airflow's database has it, for a task.
        site: Of the worker, as its last poll has it; None if it is unknown.
        dag: Of the task; None for an auxiliary job.
    """

    job: str
    worker: str
    queue: str
    site: str | None
    dag: str | None

    @property
    def targets(self) -> tuple[PolicyTarget, ...]:
        """Whose policies apply, and for what its calls are counted."""
        queue = PolicyTarget("queue", self.queue)
        return (queue,) if self.site is None else (queue, PolicyTarget("site", self.site))


def caller_of(record: JobRecord, worker: str, dispatched: Dispatched, last_poll: LastPoll) -> Caller:
    """The queue and the site by which the calls of a job are judged: decided here and nowhere else.

    A relay may write records and workers' entries. So the queue of a task is the one that Airflow's database names for
    the dispatch; only that of an auxiliary job is the record's. The site is what the relays say.

    Args:
        record: Of the job.
        worker: Its holder.
        dispatched: What Airflow's database has of it.
        last_poll: Of a worker.
    """
    poll = last_poll(worker)
    site = None if poll is None else poll.site
    return Caller(record.id, worker, dispatched.queue or record.queue, site, dispatched.dag)


class NeedToKnow:
    """Judges and counts calls.

    Args:
        broker: Connected or not.
        last_poll: Of a worker.
        registry: For its metrics.
    """

    def __init__(self, broker: Broker, last_poll: LastPoll, registry: CollectorRegistry) -> None:
        self.view = PolicyView(broker)
        self.counter = AccessCounter(broker, PolicyFigures(registry, lambda: self.view.complete))
        self._last_poll = last_poll
        self._events = _EventLimit()

    def judge(self, record: JobRecord, worker: str, dispatched: Dispatched, used: tuple[Use, ...]) -> "Judged":
        """The call, if it may be answered; arguments as for `caller_of`.

        Raises:
            EdgeError: `policy_denied`: a policy that enforces does not allow it. `gate_unavailable`: what applies is
                not known; repeat the call.
        """
        caller = caller_of(record, worker, dispatched, self._last_poll)
        if caller.site is None and self.view.has_sites:
            raise unknown(f"the site of worker {worker} is not known, and sites have policies")
        outcomes = dict.fromkeys(used, AccessOutcome.ALLOWED)
        for target, policy in self.view.of(caller.targets):
            for use in used:
                if policy.allows(use.kind, use.name):
                    continue
                if policy.mode is PolicyMode.ENFORCE:
                    self._deny(caller, target, use)
                outcomes[use] = AccessOutcome.WOULD_BE_DENIED
        return Judged(self.counter, caller, outcomes)

    def _deny(self, caller: Caller, target: PolicyTarget, use: Use) -> NoReturn:
        self.counter.count(caller.targets, {use: AccessOutcome.DENIED}, caller.dag)
        if (left_out := self._events.next()) is not None:
            name = use.name[:_SHOWN_CHARS]
            log.warning(
                "policy_denied",
                job=caller.job,
                worker=caller.worker,
                dag=caller.dag,
                policy=str(target),
                kind=use.kind.value,
                name=name,
                left_out=left_out,
            )
        raise EdgeError(ErrorCode.POLICY_DENIED, _explanation(target, use))


@dataclass(frozen=True, slots=True)
class Judged:
    """A call that may be answered."""

    counter: AccessCounter
    caller: Caller
    used: Mapping[Use, AccessOutcome]

    def answered(self) -> None:
        """Airflow has answered it. A call that is repeated during an outage counts once."""
        self.counter.count(self.caller.targets, self.used, self.caller.dag)


class _EventLimit:
    """Lets `MAX_EVENTS` pass in each `EVENTS_S`."""

    def __init__(self) -> None:
        self._began = 0.0
        self._passed = 0
        self._left_out = 0

    def next(self) -> int | None:
        """How many were left out before this one; None if this one is left out."""
        now = time.monotonic()
        if now - self._began >= EVENTS_S:
            self._began, self._passed = now, 0
        if self._passed >= MAX_EVENTS:
            self._left_out += 1
            return None
        self._passed += 1
        left_out, self._left_out = self._left_out, 0
        return left_out


def _explanation(target: PolicyTarget, use: Use) -> str:
    """Which policy denied what, and what would allow it."""
    name = use.name if len(use.name) <= _SHOWN_CHARS else f"{use.name[:_SHOWN_CHARS]}…"
    shown = "".join(char if char.isprintable() else "�" for char in name)
    options = shlex.join([f"--{target.kind}", target.name, "--allow", f"{use.kind}={literal(shown)}"])
    return (
        f"the policy of {target} does not allow {use.kind} {shown!r}. "
        f"To allow it: airflow edge-relay policy set {options}"
    )
