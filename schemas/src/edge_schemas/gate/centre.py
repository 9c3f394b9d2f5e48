"""What a worker may know of the centre, and of itself in the centre's view. Read on request, never pushed."""

from edge_schemas.wire.base import Instant, Outbound
from edge_schemas.wire.ids import QueueName, SiteName, TeamName, WorkerName
from edge_schemas.wire.jobs import Signed


class CentreFacts(Outbound):
    """The centre's Airflow, from a keeper: what a worker's runtime must match.

    Attributes:
        airflow_version: Of the keeper's own installation, which is the scheduler's.
        python_version: The Python it runs on, `major.minor.micro`. A runtime may have another one.
        runtime_lock: Pinned requirements for runtimes, in pip's format; None if the centre has none.
        signing_keys: The key sets, the newest last; empty if jobs are not signed.
    """

    airflow_version: str
    python_version: str
    runtime_lock: str | None = None
    signing_keys: tuple[Signed, ...] = ()


class SigningKeys(Outbound):
    """The key sets of the centre, which prove themselves: a relay can withhold one, and make none.

    Attributes:
        sets: The newest last; None while no keeper answers.
    """

    sets: tuple[Signed, ...] | None = None


class WorkerFacts(Outbound):
    """What the credential of the caller gives access to. Has no side effects, also while an agent polls.

    Attributes:
        protocols: Those that the relay serves.
        now: The relay's clock when it answered.
        centre: None while no keeper answers.
    """

    worker: WorkerName
    site: SiteName
    team: TeamName | None = None
    queues: tuple[QueueName, ...]
    protocols: tuple[int, ...]
    relay_version: str
    now: Instant
    centre: CentreFacts | None = None
