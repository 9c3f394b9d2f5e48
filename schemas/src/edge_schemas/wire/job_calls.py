"""Calls of a worker about one job: start, finish, release."""

from pydantic import Field

from edge_schemas.wire.base import Inbound, Outbound


class StartRequest(Inbound):
    """Confirms a grant; only the first worker to do so becomes the holder."""

    receipt: str = Field(max_length=2048)
    incarnation: int = Field(ge=1)


class EndReport(Outbound):
    """How a job's processes have ended; a worker keeps it on its disk until it is reported.

    Attributes:
        exit_code: Of the task host's fork, negative for a signal; None if no process ever ran.
        reason: For people, shown in Airflow when no final state was accepted.
        release: The job itself did not cause this end: the worker is being shut down, or was killed. If user code never
            ran, the job is released: it waits again, and no try is spent.
    """

    exit_code: int | None = None
    reason: str | None = Field(default=None, max_length=1000)
    release: bool = False


class FinishRequest(EndReport, Inbound):
    """The job's processes have ended.

    Attributes:
        incarnation: Of the agent that reports this; another one may have started the job.
        receipt: Of the grant with which the job was last started. A late repeat does not end the job after it was
            started again with another grant.
    """

    incarnation: int = Field(ge=1)
    receipt: str | None = Field(default=None, max_length=2048)


class ReleaseRequest(Inbound):
    """Releases a granted job.

    Attributes:
        counted: The job itself may be the cause; after five such releases it is parked for an operator.
    """

    receipt: str = Field(max_length=2048)
    reason: str = Field(min_length=1, max_length=500)
    counted: bool = True
