"""What each NATS user may do, and no more. A worker has no NATS user.

`admin` provisions and may do everything; `operator` is for people with the `nats` command line; `relay`, `executor`,
`keeper`, `reader` (of logs and published DAG code, in the api-server) and `publisher` (of DAG code, in the
dag-processor) have the rights of their component.
An inbox prefix per role keeps one role from reading another's answers.
"""

from dataclasses import dataclass

from edge_broker import subjects

ADMIN = "admin"
OPERATOR = "operator"
RELAY = "relay"
EXECUTOR = "executor"
KEEPER = "keeper"
READER = "reader"
PUBLISHER = "publisher"
ROLES = (ADMIN, OPERATOR, RELAY, EXECUTOR, KEEPER, READER, PUBLISHER)

_RECORDS = subjects.kv_stream(subjects.RECORDS_BUCKET)
_ENDED = subjects.kv_stream(subjects.ENDED_BUCKET)
_ENDED_INDEX = subjects.kv_stream(subjects.ENDED_INDEX_BUCKET)
_WORKERS = subjects.kv_stream(subjects.WORKERS_BUCKET)
_ACCESS = subjects.kv_stream(subjects.ACCESS_BUCKET)
_DESIRED = subjects.kv_stream(subjects.DESIRED_BUCKET)
_POLICIES = subjects.kv_stream(subjects.POLICIES_BUCKET)
_ACCESSES = subjects.kv_stream(subjects.ACCESSES_BUCKET)
_BUNDLES = subjects.kv_stream(subjects.BUNDLES_BUCKET)
_FOR_PEOPLE = (
    subjects.LOGS,
    subjects.DEAD,
    subjects.AUDIT,
    _RECORDS,
    _ENDED,
    _WORKERS,
    _DESIRED,
    _POLICIES,
    _ACCESSES,
    _BUNDLES,
)
"""What people may read message by message, besides the waiting jobs."""
_ALL = (
    subjects.JOBS,
    subjects.LOGS,
    subjects.DEAD,
    subjects.AUDIT,
    _RECORDS,
    _ENDED,
    _ENDED_INDEX,
    _WORKERS,
    _ACCESS,
    _DESIRED,
    _POLICIES,
    _ACCESSES,
    subjects.BUNDLES,
    _BUNDLES,
)


@dataclass(frozen=True, slots=True)
class Rights:
    """Subjects that a user may publish to and subscribe to; everything else is denied."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def _api(*calls: str) -> tuple[str, ...]:
    return tuple(f"$JS.API.{call}" for call in calls)


def _read(*streams: str) -> tuple[str, ...]:
    """Read single values through the leader."""
    return _api(*(f"STREAM.MSG.GET.{stream}" for stream in streams))


def _direct(*streams: str) -> tuple[str, ...]:
    """Read values and batches through any replica."""
    return _api(*(f"DIRECT.GET.{stream}{rest}" for stream in streams for rest in ("", ".>")))


def _watch(*streams: str) -> tuple[str, ...]:
    """List and follow a bucket; nats-py makes an ordered consumer for it."""
    return tuple(
        right
        for stream in streams
        for right in (
            *_api(
                f"STREAM.INFO.{stream}",
                f"CONSUMER.CREATE.{stream}",
                f"CONSUMER.CREATE.{stream}.>",
                f"CONSUMER.DELETE.{stream}.*",
                f"CONSUMER.INFO.{stream}.*",
            ),
            f"$JS.FC.{stream}.>",
        )
    )


def _page(*streams: str) -> tuple[str, ...]:
    """Read a stream in order by a consumer that ends with its reader; without this right, only single messages."""
    return tuple(
        right
        for stream in streams
        for right in (
            *_api(
                f"CONSUMER.CREATE.{stream}",
                f"CONSUMER.CREATE.{stream}.>",
                f"CONSUMER.DELETE.{stream}.*",
                f"CONSUMER.MSG.NEXT.{stream}.*",
            ),
            f"$JS.ACK.{stream}.>",
            f"$JS.FC.{stream}.>",
        )
    )


_READ_BUNDLES = (*_read(subjects.BUNDLES, _BUNDLES), *_direct(subjects.BUNDLES))
_PUBLISH_BUNDLES = (
    *_READ_BUNDLES,
    # Which pieces there are, and what the bucket holds.
    *_api(f"STREAM.INFO.{subjects.BUNDLES}", f"STREAM.INFO.{_BUNDLES}"),
    "edge.bundles.>",
    subjects.kv_subject(subjects.BUNDLES_BUCKET, ">"),
)


def rights(role: str) -> Rights:
    """The rights of a role."""
    return _RIGHTS[role]


_RIGHTS = {
    ADMIN: Rights((">",), (">",)),
    OPERATOR: Rights(
        (
            *_api("INFO", "STREAM.NAMES", "STREAM.LIST", "STREAM.INFO.*"),
            *_api("CONSUMER.NAMES.*", "CONSUMER.LIST.*", "CONSUMER.INFO.*.*"),
            *_read(subjects.JOBS, *_FOR_PEOPLE),
            *_direct(subjects.JOBS, *_FOR_PEOPLE),
            *_page(*_FOR_PEOPLE),
            *_api(f"CONSUMER.PAUSE.{subjects.JOBS}.*"),
            *_api(f"STREAM.PURGE.{subjects.JOBS}", f"STREAM.PURGE.{subjects.DEAD}"),
            *_api("STREAM.SNAPSHOT.*"),
            "$JS.SNAPSHOT.ACK.>",
            "$SYS.REQ.USER.INFO",  # its own rights
        ),
        (
            "_INBOX.>",
            "_INBOX_operator.>",
            "edge.>",
            subjects.kv_subject(subjects.RECORDS_BUCKET, ">"),
            subjects.kv_subject(subjects.ENDED_BUCKET, ">"),
            subjects.kv_subject(subjects.WORKERS_BUCKET, ">"),
            subjects.kv_subject(subjects.DESIRED_BUCKET, ">"),
            subjects.kv_subject(subjects.POLICIES_BUCKET, ">"),
            subjects.kv_subject(subjects.ACCESSES_BUCKET, ">"),
            subjects.kv_subject(subjects.BUNDLES_BUCKET, ">"),
            "$JS.EVENT.ADVISORY.>",
        ),
    ),
    RELAY: Rights(
        (
            *_api(f"CONSUMER.MSG.NEXT.{subjects.JOBS}.*"),
            *_api(*(f"STREAM.INFO.{stream}" for stream in _ALL)),
            # For metrics: room in the store, figures of the queues, the age of the oldest job.
            *_api("INFO", f"CONSUMER.LIST.{subjects.JOBS}"),
            f"$JS.ACK.{subjects.JOBS}.>",
            *_read(_RECORDS, _ENDED, _ENDED_INDEX, _WORKERS, _ACCESS, _DESIRED),
            # What jobs may use and have used: to show it to operators, never to write it.
            *_read(_POLICIES, _ACCESSES),
            *_read(subjects.LOGS, subjects.JOBS, subjects.DEAD),
            # So that an outage of a site is reported once, by whichever replica.
            *_read(subjects.AUDIT),
            *_watch(_RECORDS, _WORKERS, _ACCESS, _DESIRED),
            # For the lists of operators: pages of records, of parked jobs and of the audit.
            *_direct(_RECORDS, _ENDED, _WORKERS, subjects.DEAD, subjects.AUDIT),
            # For producers: lists of their ended jobs, and logs.
            *_direct(_ENDED_INDEX, subjects.LOGS),
            subjects.kv_subject(subjects.ENDED_INDEX_BUCKET, ">"),
            # DAG code, for the workers that hold a job of it.
            *_READ_BUNDLES,
            *_api(f"STREAM.PURGE.{subjects.DEAD}"),
            # For submitted jobs: their messages, the consumers of their queues, and the move of their ended records.
            "edge.jobs.>",
            *_api(
                f"CONSUMER.CREATE.{subjects.JOBS}.>",
                f"CONSUMER.INFO.{subjects.JOBS}.*",
                f"STREAM.PURGE.{subjects.JOBS}",
            ),
            subjects.kv_subject(subjects.ENDED_BUCKET, ">"),
            # To make room for logs: the oldest ones, of ended jobs.
            *_api(f"STREAM.PURGE.{subjects.LOGS}"),
            subjects.kv_subject(subjects.RECORDS_BUCKET, ">"),
            subjects.kv_subject(subjects.WORKERS_BUCKET, ">"),
            subjects.kv_subject(subjects.ACCESS_BUCKET, ">"),
            subjects.kv_subject(subjects.DESIRED_BUCKET, ">"),
            "edge.logs.>",
            "edge.dead.>",
            "edge.audit.>",
            f"{subjects.NOTICES}.>",
        ),
        ("_INBOX_relay.>", f"{subjects.NOTICES}.>"),
    ),
    EXECUTOR: Rights(
        (
            "edge.jobs.>",
            *_api(
                f"CONSUMER.CREATE.{subjects.JOBS}.>",
                f"CONSUMER.INFO.{subjects.JOBS}.*",
                f"STREAM.PURGE.{subjects.JOBS}",
                f"STREAM.INFO.{subjects.JOBS}",
            ),
            *_read(subjects.JOBS, _RECORDS, _ENDED),
            *_watch(_RECORDS, _DESIRED, _BUNDLES),
            *_read(_BUNDLES),
            subjects.kv_subject(subjects.RECORDS_BUCKET, ">"),
            f"{subjects.NOTICES}.>",
        ),
        ("_INBOX_executor.>", subjects.RELAY_DEMAND),
    ),
    KEEPER: Rights(
        (
            *_read(_RECORDS, _ENDED, _WORKERS, subjects.LOGS, _POLICIES, _ACCESSES),
            *_watch(_RECORDS, _WORKERS, _DESIRED, _POLICIES, _BUNDLES),
            # The commands of policies are run as keeper; accesses are counted by keepers.
            *_api(f"STREAM.INFO.{_ACCESSES}"),
            subjects.kv_subject(subjects.POLICIES_BUCKET, ">"),
            subjects.kv_subject(subjects.ACCESSES_BUCKET, ">"),
            # It publishes the bundles of those who do not let the dag-processor do so, and removes old versions.
            *_PUBLISH_BUNDLES,
            *_api(f"STREAM.PURGE.{subjects.BUNDLES}"),
            # A line in the log of a task that waits.
            "edge.logs.>",
            subjects.kv_subject(subjects.RECORDS_BUCKET, ">"),
            subjects.kv_subject(subjects.ENDED_BUCKET, ">"),
            subjects.kv_subject(subjects.ENDED_INDEX_BUCKET, ">"),
            "edge.dead.>",
            "edge.audit.>",
            f"{subjects.NOTICES}.>",
        ),
        ("_INBOX_keeper.>", subjects.RELAY_BEATS),
    ),
    READER: Rights(
        (*_direct(subjects.LOGS), *_api(f"STREAM.INFO.{subjects.LOGS}"), *_READ_BUNDLES),
        ("_INBOX_reader.>",),
    ),
    PUBLISHER: Rights(_PUBLISH_BUNDLES, ("_INBOX_publisher.>",)),
}
