"""The settings of the limits of producers, part of the relay's settings."""

from pydantic import Field
from pydantic_settings import BaseSettings

from edge_relay.limits.settings import MIB


class ProducerLimitSettings(BaseSettings):
    """How much of one replica producers may use."""

    producer_calls_per_s: float = Field(
        default=100.0,
        ge=1,
        le=10_000,
        description="Calls of one producer at this replica, in a second; five times as many at once. A list counts as "
        "a call for each 1,000 jobs that it looks through. Calls beyond it are refused with 429.",
    )
    submissions_per_s: float = Field(
        default=500.0,
        ge=1,
        le=100_000,
        description="Submissions of one producer at this replica, in a second; five times as many at once. Calls "
        "beyond it are refused with 429.",
    )
    waiting_jobs: int = Field(
        default=100_000,
        ge=1,
        description="Jobs of one producer that may wait in one queue, delayed and parked ones included. Submissions "
        "beyond it are refused with 429.",
    )
    producer_log_bytes_per_s: int = Field(
        default=8 * MIB,
        ge=1 << 16,
        description="Log bytes that one producer may read at this replica in a second, eight times as many at once. "
        "Calls beyond it are refused with 429.",
    )
    producer_waits: int = Field(
        default=2048,
        ge=1,
        le=100_000,
        description="Calls of producers that may wait at this replica for the end of a job or for its log.",
    )
    waits_per_producer: int = Field(
        default=256, ge=1, le=100_000, description="The same for one producer. Calls beyond it are refused with 429."
    )
