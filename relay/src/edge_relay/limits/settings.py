"""The settings of the limits, part of the relay's settings."""

from ipaddress import ip_network
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode

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
        description="Largest body in bytes of enrol, start, release and cancel; larger ones are refused.",
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
        description="Memory in bytes for the request bodies of one worker or producer at this replica. Calls beyond it "
        "are refused with 429, and the worker repeats them.",
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
    job_log_bytes_per_s: int = Field(
        default=MIB,
        ge=1 << 16,
        description="Log bytes of one job in a second, 64 times as many at once; a chunk counts as 256 KiB at least. "
        "Chunks beyond it are refused with 429, and the worker sends them later in larger pieces.",
    )
    worker_log_bytes_per_s: int = Field(
        default=2 * MIB, ge=1 << 16, description="The same for all jobs of one worker, counted as they are stored."
    )
    queue_log_bytes_per_s: int = Field(
        default=4 * MIB, ge=1 << 16, description="The same for all jobs of one queue, counted as they are stored."
    )
    unstarted_grants: int = Field(
        default=64,
        ge=1,
        le=1024,
        description="Jobs that one worker may be granted before it has started those it was granted earlier. A worker "
        "that lets grants run out gets fewer, down to one after a pause of up to ten minutes, until it starts one.",
    )
    max_connections: int | None = Field(
        default=None,
        ge=16,
        description="Connections to the workers' listener. Default, and at most: what the limit of open files "
        "allows, less a reserve for operators, NATS and keepers. Beyond it the connection is closed that has been open "
        "longest without an accepted credential.",
    )
    strangers_per_address: int = Field(
        default=512,
        ge=4,
        description="Connections of one address on which no call had an accepted credential yet. Beyond it the oldest "
        "of them is closed.",
    )
    connections_per_worker: int = Field(
        default=512,
        ge=8,
        description="Connections of one worker, one producer, and of callers with one enrolment token. Calls on "
        "others are refused with 429, and repeated.",
    )
    operators_connections: int = Field(
        default=64,
        ge=8,
        le=4096,
        description="Connections to the operators' listener, which has this room for itself. Beyond it the oldest is "
        "closed.",
    )
    streams_per_operator: int = Field(
        default=20,
        ge=1,
        description="Streams of changes that one operator has open at a replica. Further ones are refused with 429.",
    )
    first_request_s: float = Field(
        default=15.0,
        ge=1,
        le=75,
        description="Seconds from a new connection to its first call with an accepted credential, TLS included; "
        "otherwise it is closed.",
    )
    idle_s: float = Field(
        default=75.0,
        ge=1,
        le=3600,
        description="Seconds without a call after which a connection is closed. Workers close theirs after 30.",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Networks of HTTP load balancers in front of the relay, separated by commas, such as 10.0.0.0/8. "
        "Limits by address use the X-Forwarded-For that they add; their own connections are not limited by address. "
        "Never name a balancer in TCP mode: it passes on what the client wrote.",
    )

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _split_networks(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("trusted_proxies")
    @classmethod
    def _check_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            ip_network(network)  # raises ValueError, whose text names the network
        return networks
