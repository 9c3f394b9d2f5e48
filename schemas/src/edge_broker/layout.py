"""Streams, buckets and consumers as they must be on the server; `apply` makes them so and reports what it can't change.

Names are in `edge_broker.subjects`. Provisioning runs as user `admin`, never from relay or bridge; only the
consumers of a queue are made by the executor or by a relay, when the queue gets its first job of a kind.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from edge_broker import subjects
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import STREAM_NOT_FOUND, JetStreamError
from edge_broker.jetstream import consumer_info
from edge_broker.jetstream.consumer_info import ConsumerConfig
from edge_broker.jetstream.stream_info import StreamConfig, create_stream, stream_info, update_stream
from edge_schemas.admin.policies import LIST_DAYS
from edge_schemas.life.model import ENDED_RECORD_LIFE
from edge_schemas.wire.jobs import JobKind
from edge_schemas.wire.polls import GRANT_WAIT_S

OLDEST_SERVER = (2, 11, 0)
"""The first release with a life time per message (`Nats-TTL`)."""
_NS = 1_000_000_000
_DAY_NS = 86_400 * _NS
_MIB = 1 << 20


class LayoutRefused(Exception):
    """The server can't have the layout; the text says what to change."""


@dataclass(frozen=True, slots=True)
class LayoutSettings:
    """What an installation may choose. None leaves an existing stream as it is; a new stream gets the default.

    Attributes:
        replicas: Copies of each stream: 1 on a single server, 3 in a cluster.
        jobs_max_bytes: Room for waiting jobs; at 2 KiB for a signed job, 256 MiB are some 125,000.
        logs_max_bytes: Room for logs; relays remove the oldest ones of ended jobs before it is full.
        logs_max_age_days: Older logs are removed.
        bundles_max_bytes: Room for published bundles, compressed.
    """

    replicas: int | None = None
    jobs_max_bytes: int | None = None
    logs_max_bytes: int | None = None
    logs_max_age_days: int | None = None
    bundles_max_bytes: int | None = None


DEFAULTS = LayoutSettings(
    replicas=1,
    jobs_max_bytes=256 * _MIB,
    logs_max_bytes=2048 * _MIB,
    logs_max_age_days=14,
    bundles_max_bytes=1024 * _MIB,
)


def stream_configs(settings: LayoutSettings = DEFAULTS) -> list[StreamConfig]:
    """Every stream of the layout, buckets included, in the server's own terms, without unchanged settings."""
    logs_max_age_ns = None if settings.logs_max_age_days is None else settings.logs_max_age_days * _DAY_NS
    streams: list[StreamConfig] = [
        {
            "name": subjects.JOBS,
            "description": "Edge Relay: waiting jobs, one message each",
            "subjects": ["edge.jobs.>"],
            "retention": "workqueue",
            "discard": "new",
            "discard_new_per_subject": True,
            "max_msgs_per_subject": 1,
            "max_bytes": settings.jobs_max_bytes,
            "duplicate_window": 120 * _NS,
            "allow_direct": True,
        },
        {
            "name": subjects.LOGS,
            "description": "Edge Relay: task logs in chunks; Edge-Offset says where a chunk begins",
            "subjects": ["edge.logs.>"],
            "retention": "limits",
            "discard": "new",
            "max_age": logs_max_age_ns,
            "max_bytes": settings.logs_max_bytes,
            "compression": "s2",
            "allow_direct": True,
        },
        {
            "name": subjects.DEAD,
            "description": "Edge Relay: parked jobs with their history",
            "subjects": ["edge.dead.>"],
            "retention": "limits",
            "discard": "old",
            "max_age": 14 * _DAY_NS,
            "max_msgs_per_subject": 1,
            "allow_direct": True,
        },
        {
            "name": subjects.AUDIT,
            "description": "Edge Relay: who did what",
            "subjects": ["edge.audit.>"],
            "retention": "limits",
            "discard": "old",
            "max_age": 90 * _DAY_NS,
            "allow_direct": True,
        },
        {
            "name": subjects.BUNDLES,
            "description": "Edge Relay: published DAG code, by the digests of its pieces",
            "subjects": ["edge.bundles.>"],
            "retention": "limits",
            "discard": "new",
            "discard_new_per_subject": True,
            "max_msgs_per_subject": 1,
            "max_bytes": settings.bundles_max_bytes,
            "allow_direct": True,
        },
        _bucket(subjects.RECORDS_BUCKET, "records of jobs, ended ones for a short time", allow_msg_ttl=True),
        _bucket(subjects.ENDED_BUCKET, "records of ended jobs", max_age=int(ENDED_RECORD_LIFE.total_seconds()) * _NS),
        _bucket(
            subjects.ENDED_INDEX_BUCKET,
            "ended jobs of producers by queue and label",
            max_age=int(ENDED_RECORD_LIFE.total_seconds()) * _NS,
        ),
        _bucket(subjects.WORKERS_BUCKET, "the last poll of each worker", allow_msg_ttl=True),
        _bucket(subjects.ACCESS_BUCKET, "hashes of credentials and what they open", allow_msg_ttl=True),
        _bucket(subjects.DESIRED_BUCKET, "what operators have set for workers, sites and queues", allow_msg_ttl=True),
        _bucket(subjects.POLICIES_BUCKET, "what jobs may use of Airflow", allow_msg_ttl=True),
        _bucket(subjects.ACCESSES_BUCKET, "what jobs used of Airflow, by day", max_age=LIST_DAYS * _DAY_NS),
        _bucket(subjects.BUNDLES_BUCKET, "which versions of DAG bundles are published", allow_msg_ttl=True),
    ]
    common: StreamConfig = {"storage": "file", "num_replicas": settings.replicas, "allow_rollup_hdrs": False}
    configs = ({**common, **stream} for stream in streams)
    return [_without_none(config) for config in configs]


def consumer_config(team: str | None, queue: str, kind: JobKind) -> ConsumerConfig:
    """The durable pull consumer of the jobs of a kind in a queue.

    Limits are explicit: by default a queue stops without an error at 1,000 unconfirmed jobs, and rejects
    the 513th pull.
    """
    return {
        "durable_name": subjects.consumer_name(team, queue, kind),
        "name": subjects.consumer_name(team, queue, kind),
        "filter_subject": subjects.kind_filter(team, queue, kind),
        "ack_policy": "explicit",
        "deliver_policy": "all",
        "ack_wait": GRANT_WAIT_S * _NS,
        "max_deliver": -1,
        "max_ack_pending": -1,
        "max_waiting": 8192,
    }


async def ensure_consumer(broker: Broker, team: str | None, queue: str, kind: JobKind) -> None:
    """Make the consumer of a kind in a queue and wake the replicas that wait for it; nothing changes if it is there.

    Raises:
        JetStreamError: A consumer of that name exists with another configuration.
        BrokerUnavailable: Try again.
    """
    config = consumer_config(team, queue, kind)
    await consumer_info.ensure(broker, subjects.JOBS, config)
    await broker.publish(subjects.queue_notice(config["name"]))


async def apply(broker: Broker, settings: LayoutSettings) -> list[str]:
    """Create or update all streams and buckets; returns a line for each.

    Raises:
        LayoutRefused: The server is too old, has too few nodes or holds a stream that can't become ours.
        BrokerUnavailable: Try again.
    """
    if broker.server_version < OLDEST_SERVER:
        raise LayoutRefused(
            f"nats-server {_dotted(broker.server_version)} is too old: {_dotted(OLDEST_SERVER)} or later is needed"
        )
    wanted = zip(stream_configs(settings), stream_configs(), strict=True)
    return [await _apply_stream(broker, config, default) for config, default in wanted]


async def _apply_stream(broker: Broker, config: StreamConfig, default: StreamConfig) -> str:
    name = config["name"]
    try:
        current = await _stream_config(broker, name)
        if current is not None and not differences(config, current):
            return f"{name}: unchanged"
        apply_config = create_stream if current is None else update_stream
        changed = await apply_config(broker, name, {**(current or default), **config})
    except JetStreamError as error:
        raise LayoutRefused(
            f"stream {name}: {error.description}. Change the server or the setting, then run again"
        ) from error
    wrong = differences(config, changed)
    if wrong:
        raise LayoutRefused(f"stream {name}: the server did not accept {', '.join(wrong)}")
    return f"{name}: {'created' if current is None else 'updated'}"


async def check(broker: Broker) -> list[str]:
    """What is missing or differs from the layout in a way that would lose or block jobs; empty if nothing does."""
    problems = []
    for config in stream_configs():
        current = await _stream_config(broker, config["name"])
        if current is None:
            problems.append(f"stream {config['name']} does not exist: run 'edge-relay streams apply'")
            continue
        wrong = [name for name in differences(config, current) if is_essential(config["name"], name)]
        problems += [
            f"stream {config['name']}: {name} is {current.get(name)!r}, must be {config.get(name)!r}" for name in wrong
        ]
    return problems


ESSENTIAL = frozenset(
    {
        *("subjects", "retention", "discard", "discard_new_per_subject", "max_msgs_per_subject"),
        *("allow_msg_ttl", "allow_rollup_hdrs"),
    }
)
"""Settings of a stream without which jobs would be lost or blocked, or one message could remove all others."""
_REMOVES_LOGS = (subjects.LOGS, "discard")
"""With the setting of older versions, a full stream removes logs of running jobs: a loss, but of no job."""
CHOSEN = frozenset({"num_replicas", "max_bytes", "max_age", "description"})
"""Settings of a stream that an installation may choose."""


def is_essential(stream: str, setting: str) -> bool:
    """Whether another value of the setting would lose or block jobs."""
    return setting in ESSENTIAL and (stream, setting) != _REMOVES_LOGS


def differences(wanted: Mapping[str, object], found: Mapping[str, object]) -> list[str]:
    """The settings of `wanted` that `found` does not have."""
    return [name for name, value in wanted.items() if found.get(name, _NEUTRAL.get(name)) != value]


_NEUTRAL: StreamConfig = {
    "compression": "none",
    "allow_direct": False,
    "allow_msg_ttl": False,
    "allow_rollup_hdrs": False,
}


async def _stream_config(broker: Broker, name: str) -> StreamConfig | None:
    try:
        return (await stream_info(broker, name))["config"]
    except JetStreamError as error:
        if error.code == STREAM_NOT_FOUND:
            return None
        raise


def _without_none(config: Mapping[str, object]) -> StreamConfig:
    return cast("StreamConfig", {name: value for name, value in config.items() if value is not None})


def _bucket(
    name: str, description: str, *, allow_msg_ttl: bool | None = None, max_age: int | None = None
) -> StreamConfig:
    config: StreamConfig = {
        "name": subjects.kv_stream(name),
        "description": f"Edge Relay: {description}",
        "subjects": [subjects.kv_subject(name, ">")],
        "retention": "limits",
        "discard": "new",
        "max_msgs_per_subject": 1,
        "allow_direct": True,
        "deny_delete": True,
    }
    if allow_msg_ttl is not None:
        config["allow_msg_ttl"] = allow_msg_ttl
    if max_age is not None:
        config["max_age"] = max_age
    return config


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))
