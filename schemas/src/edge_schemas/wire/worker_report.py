"""What a worker reports of itself with each poll: its jobs, its versions, its health.

Each part has two models. The one of the poll is strict. The one that is stored in the worker's entry ignores fields
that it does not know: a newer relay may have stored them, and an older keeper must still read the entry.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from edge_schemas.wire.base import Inbound, Outbound
from edge_schemas.wire.ids import JobId
from edge_schemas.wire.offline import OfflinePolicy


class JobPhase(StrEnum):
    """The phase of a job on the worker."""

    GRANTED = "granted"
    RUNNING = "running"
    FINISHING = "finishing"


class StoredJobReport(Outbound):
    """See `JobReport`."""

    id: JobId
    phase: JobPhase
    offline: OfflinePolicy | None = None


class JobReport(StoredJobReport, Inbound):
    """A job on the worker.

    Attributes:
        offline: The offline contract that the worker keeps for it.
    """


class ProxyKind(StrEnum):
    """How the worker reaches the relay."""

    DIRECT = "direct"
    HTTP = "http"
    HTTPS = "https"


class StoredHealth(Outbound):
    """See `WorkerHealth`."""

    cpu_busy_ratio: float | None = Field(default=None, ge=0, le=1)
    load_1m: float | None = Field(default=None, ge=0)
    memory_used_bytes: int | None = Field(default=None, ge=0)
    memory_total_bytes: int | None = Field(default=None, ge=0)
    disk_free_bytes: int | None = Field(default=None, ge=0)
    disk_total_bytes: int | None = Field(default=None, ge=0)
    link_cuts: int | None = Field(default=None, ge=0)
    held_calls: int | None = Field(default=None, ge=0)
    log_lag_bytes: int | None = Field(default=None, ge=0)
    clock_skew_s: float | None = Field(default=None, allow_inf_nan=False)
    proxy: ProxyKind | None = None


class WorkerHealth(StoredHealth, Inbound):
    """Figures of the worker and its machine; for operators only. Counts are since the agent began.

    Attributes:
        cpu_busy_ratio: Of all CPUs of the machine, since the last poll; 1 is fully busy.
        disk_free_bytes: Where the state folder is.
        link_cuts: How often the link to the relay was lost.
        held_calls: Calls of tasks that wait in the local gateway for the relay.
        log_lag_bytes: Log bytes on disk that the relay does not have yet.
        clock_skew_s: This machine's clock minus the relay's.
        proxy: None if it is not known yet.
    """


ShortText = Annotated[str, Field(max_length=120)]


class StoredVersions(Outbound):
    """See `WorkerVersions`."""

    agent: ShortText
    python: ShortText
    airflow: ShortText | None = None
    platform: ShortText


class WorkerVersions(StoredVersions, Inbound):
    """Versions of the software on the worker."""
