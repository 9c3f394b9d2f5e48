"""Calls of a worker about one job: start, log, finish, release, and the code that it runs.

A log is uploaded as bytes of its file at an offset. The relay's answer is the offset up to which the bytes are durable.
A chunk that overlaps is trimmed, one that would leave a gap is rejected with `offset_mismatch` and the expected offset:
the worker rewinds to it.
"""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from edge_schemas.wire.base import LARGEST_COUNT, Inbound, Outbound
from edge_schemas.wire.content import SentContent
from edge_schemas.wire.errors import ErrorCode
from edge_schemas.wire.ids import JobId, PieceDigest

MAX_CHUNK_BYTES = 256 * 1024
"""Of one upload on the wire, compressed or not."""
MAX_CHUNK_DECODED_BYTES = 512 * 1024
"""Of one upload once decompressed: a NATS message with its headers must stay below 1 MiB."""
MAX_JOB_LOG_BYTES = 256 * 1024 * 1024


class StartRequest(Inbound):
    """Confirms a grant; only the first worker to do so becomes the holder."""

    receipt: str = Field(max_length=2048)
    incarnation: int = Field(ge=1, le=LARGEST_COUNT)


class EndReport(Outbound):
    """How a job's processes have ended; a worker keeps it on its disk until it is reported.

    Attributes:
        exit_code: Of the task host's fork, negative for a signal; None if no process ever ran.
        reason: For people, shown in Airflow when no final state was accepted.
        release: The job itself did not cause this end: the worker is being shut down, or was killed. If user code never
            ran, the job is released: it waits again, and no try is spent. A submitted job waits again if its producer
            said `on_lost: requeue`; the attempt is spent.
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
        result: For the producer of a submitted job.
    """

    exit_code: int | None = Field(default=None, ge=-(2**31), lt=2**32)
    incarnation: int = Field(ge=1, le=LARGEST_COUNT)
    receipt: str | None = Field(default=None, max_length=2048)
    result: SentContent | None = None


MAX_FINISH_BYTES = 512 * 1024
"""A result of 256 KiB is some 350 KB of base64."""
MAX_RELEASE_DELAY_S = 12 * 3600.0


class ReleaseRequest(Inbound):
    """Releases a granted job, or a payload that was started.

    Attributes:
        counted: The job itself may be the cause; after five such releases it is parked for an operator. The release of
            a payload after its start always counts as an attempt.
        delay_s: For how long a started payload is not granted again.
    """

    receipt: str = Field(max_length=2048)
    reason: str = Field(min_length=1, max_length=500)
    counted: bool = True
    delay_s: float | None = Field(default=None, ge=0, le=MAX_RELEASE_DELAY_S)


def is_signature_refusal(reason: str) -> bool:
    """Whether the reason of a release is that the worker did not accept the signature of the job."""
    return reason.startswith(f"{ErrorCode.JOB_NOT_SIGNED}:")


class LogPosition(Outbound):
    """The answer to an upload."""

    offset: int


MAX_PIECES = 1000
"""In one request."""
MAX_PIECES_REQUEST_BYTES = 128 * 1024
"""So many digests are 67 KB of JSON without white space."""
MAX_PIECE_OFFSET = 1024 * 1024
"""No frame of a piece is as long as this."""


def _check_once(pieces: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(pieces)) != len(pieces):
        raise PydanticCustomError("twice", "must not name a piece twice")
    return pieces


class BundleQuery(Inbound):
    """For which job a manifest is fetched.

    Attributes:
        job: Runs this version of the bundle, and the caller holds it.
    """

    job: JobId


class PiecesRequest(Inbound):
    """Fetches pieces of the bundle that a job runs.

    Attributes:
        job: Runs this version of the bundle, and the caller holds it.
        pieces: In the order in which they are sent, each once.
        offset: So many bytes of the first piece's frame are left out: the caller has them.
    """

    job: JobId
    pieces: Annotated[tuple[PieceDigest, ...], AfterValidator(_check_once)] = Field(
        min_length=1, max_length=MAX_PIECES, json_schema_extra={"uniqueItems": True}
    )
    offset: int = Field(default=0, ge=0, le=MAX_PIECE_OFFSET)
