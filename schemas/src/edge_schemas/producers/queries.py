"""Query parameters of producers' calls."""

from pydantic import Field

from edge_schemas.life.model import JobState
from edge_schemas.producers.submissions import MAX_WAIT_S
from edge_schemas.wire.base import Inbound

MAX_PAGE = 1000
DEFAULT_PAGE = 100


class WaitQuery(Inbound):
    """How long an answer may take.

    Attributes:
        wait: Seconds to wait for the end of the job; the status is answered in any case.
    """

    wait: float = Field(default=0.0, ge=0, le=MAX_WAIT_S)


class LogQuery(Inbound):
    """Which part of a log.

    Attributes:
        offset: The first byte.
        wait: Seconds to wait for bytes from there on; an empty answer says that none came.
    """

    offset: int = Field(default=0, ge=0)
    wait: float = Field(default=0.0, ge=0, le=MAX_WAIT_S)


class JobsQuery(Inbound):
    """Which jobs of a queue.

    Attributes:
        state: Only jobs in this state.
        label: Only jobs with this label, as `key=value`.
        after: The cursor of an earlier page.
    """

    state: JobState | None = None
    label: str | None = Field(default=None, max_length=128, pattern=r"^[^=]+=[^=]+$")
    after: str | None = Field(default=None, max_length=200)
    limit: int = Field(default=DEFAULT_PAGE, ge=1, le=MAX_PAGE)


class NoQuery(Inbound):
    """A call without query parameters."""
