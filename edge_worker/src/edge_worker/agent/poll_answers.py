"""What the answer to a poll contains, and who deals with each part of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from edge_schemas.wire.polls import Grant, PollAnswer, StopDirective
from edge_schemas.wire.worker_entry import AgentSeen, CredentialConflict
from edge_schemas.wire.workers import WorkerSettings
from edge_worker.agent.orders import Orders
from edge_worker.agent.secret_rotation import SecretRotation
from edge_worker.agent.shutdown import Shutdown, ShutdownStage
from edge_worker.jobs.registry import JobTable
from edge_worker.log import EventLog
from edge_worker.state.kept_identity import KeptIdentity

log = EventLog("edge_worker.agent.poll_answers")


class PollSink(Protocol):
    """Receives the parts of an answer."""

    def accept(self, grant: Grant) -> None:
        """A job is offered."""

    def stop(self, directive: StopDirective) -> None:
        """A job is to be stopped."""

    def adopt(self, settings: WorkerSettings) -> None:
        """The centre has changed this worker's settings."""

    def answered(self) -> None:
        """A poll was answered, and what the answer brought was passed on."""

    def runtime_refused(self, centre: str) -> None:
        """The runtime is too new for a job: the centre has this version of Airflow."""

    def revoked(self) -> None:
        """The credential was revoked; a second answer has confirmed it."""


@dataclass
class PollAnswers:
    """Passes the parts of each answer on, and records whether this worker's credential is in conflict.

    Attributes:
        settings_version: Of the settings that the worker has; reported with each poll.
        in_conflict: Another agent uses the same credential, and no operator has resolved the conflict.
    """

    table: JobTable
    sink: PollSink
    settings_version: int
    in_conflict: bool = field(default=False, init=False)

    def handle(self, answer: PollAnswer) -> None:
        """Acts on one answer."""
        if answer.settings is not None and answer.settings.version != self.settings_version:
            self.settings_version = answer.settings.version
            self.sink.adopt(answer.settings)
        if answer.conflict is not None and not self.in_conflict:
            self._begin_conflict(answer.conflict)
        if answer.conflict_resolved and self.in_conflict:
            self.in_conflict = False
            log.info("credential_conflict_resolved")
            self.table.open_intake("conflict")
        if answer.required_airflow is not None:
            self.sink.runtime_refused(answer.required_airflow)
        for directive in answer.stop:
            with _only_this(directive.job):
                self.sink.stop(directive)
        for grant in answer.grants:
            with _only_this(grant.job.id):
                self.sink.accept(grant)

    def _begin_conflict(self, conflict: CredentialConflict) -> None:
        self.in_conflict = True
        log.error(
            "credential_conflict",
            older=_name(conflict.older),
            newer=_name(conflict.newer),
            means="two agents use one worker's credential: a state folder was copied. This agent, the newer, takes no "
            "jobs until an operator decides which of the two is the worker",
        )
        self.table.close_intake("conflict", "the worker's credential is in conflict")


class Jobs(Protocol):
    """What runs the jobs: `JobRunner` or `Payloads`."""

    def accept(self, grant: Grant, /) -> None:
        """A job is offered."""

    def stop(self, directive: StopDirective, /) -> None:
        """A job is to be stopped."""


@dataclass
class PollHandler:
    """Passes the parts of an answer to those that deal with them, in agents and in consumers; a `PollSink`.

    Attributes:
        on_runtime_refused: Called with the centre's version of Airflow.
    """

    jobs: Jobs
    identity: KeptIdentity
    rotation: SecretRotation
    orders: Orders
    shutdown: Shutdown
    on_runtime_refused: Callable[[str], object]
    is_revoked: bool = False

    def accept(self, grant: Grant) -> None:
        """See `Jobs.accept`."""
        self.jobs.accept(grant)

    def stop(self, directive: StopDirective) -> None:
        """See `Jobs.stop`."""
        self.jobs.stop(directive)

    def adopt(self, settings: WorkerSettings) -> None:
        """Stores and follows the settings that the centre has changed."""
        log.info(
            "settings_changed",
            version=settings.version,
            queues=list(settings.queues),
            availability=settings.availability.value,
            slots=settings.slots,
        )
        try:
            self.identity.adopt(settings)
        except OSError as error:
            log.warning("settings_not_on_disk", error=str(error))
        self.rotation.check()
        # Once it is on disk: a drain ends the agent.
        self.orders.follow(settings)

    def answered(self) -> None:
        """See `Orders.answered`."""
        self.orders.answered()

    def runtime_refused(self, centre: str) -> None:
        """The runtime is too new for a job."""
        self.on_runtime_refused(centre)

    def revoked(self) -> None:
        """Accepts nothing new, and exits when no job is left."""
        self.is_revoked = True
        self.shutdown.reach(ShutdownStage.DRAIN, "the credential was revoked")


@contextmanager
def _only_this(job: str) -> Iterator[None]:
    """An unexpected error about one job must not end the loop that polls for all."""
    try:
        yield
    except Exception:
        log.exception("answer_part_not_handled", job=job)


def _name(agent: AgentSeen) -> str:
    """Which agent, for the log."""
    return f"incarnation {agent.incarnation} on {agent.host or 'an unnamed host'}, seen from {agent.address}"
