"""The settings of the limits, part of the relay's settings."""

from pydantic import Field
from pydantic_settings import BaseSettings

MIB = 1 << 20


class LimitSettings(BaseSettings):
    """How much of one replica clients may use."""

    max_body_bytes: int = Field(
        default=MIB,
        ge=1 << 16,
        le=1 << 30,
        description="Largest body in bytes of a poll and of operators' calls; larger ones are refused.",
    )
    max_small_body_bytes: int = Field(
        default=8192,
        ge=8192,
        le=MIB,
        description="Largest body in bytes of enrol, start, finish and release; larger ones are refused.",
    )
    body_memory_bytes: int = Field(
        default=256 * MIB,
        ge=16 * MIB,
        description="Memory in bytes for all request bodies of this replica. Execution API calls may use three "
        "quarters of it. Calls beyond it are refused with 429, and workers repeat them.",
    )
    worker_body_memory_bytes: int = Field(
        default=96 * MIB,
        ge=4 * MIB,
        description="Memory in bytes for the request bodies of one worker at this replica. Calls beyond it are refused "
        "with 429, and the worker repeats them.",
    )
    lookups_per_s: float = Field(
        default=100.0,
        gt=0,
        le=10_000,
        description="Unknown credentials and enrolment tokens that this replica looks up in NATS, in a second; ten "
        "times as many at once. Calls beyond it are refused with 429.",
    )
    lookups_per_address_per_s: float = Field(
        default=20.0,
        gt=0,
        le=10_000,
        description="The same for callers with one address.",
    )
    polls_per_s: float = Field(
        default=20.0,
        ge=1,
        le=1000,
        description="Polls of one worker at this replica, in a second; five times as many at once. Polls beyond it are "
        "refused with 429, and the worker waits as long as the answer says.",
    )
    unstarted_grants: int = Field(
        default=64,
        ge=1,
        le=1024,
        description="Jobs that one worker may be granted before it has started those it was granted earlier. A worker "
        "that lets grants run out gets fewer, down to one after a pause of up to ten minutes, until it starts one.",
    )
