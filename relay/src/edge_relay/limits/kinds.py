"""The names of the limits, as metrics and logs show them."""

from collections.abc import Callable
from enum import StrEnum


class Limit(StrEnum):
    """A limit that a caller can reach."""

    BODY_MEMORY = "body_memory"
    BODY_MEMORY_OF_WORKER = "body_memory_of_worker"
    POLLS = "polls"
    LOG_OF_JOB = "log_of_job"
    LOGS_OF_WORKER = "logs_of_worker"
    LOGS_OF_QUEUE = "logs_of_queue"
    LOG_SPACE = "log_space"
    LOOKUPS = "lookups"
    LOOKUPS_OF_ADDRESS = "lookups_of_address"
    CONNECTIONS = "connections"
    CONNECTIONS_OF_ADDRESS = "connections_of_address"
    CONNECTIONS_OF_WORKER = "connections_of_worker"
    FIRST_REQUEST = "first_request"
    UNSTARTED_GRANTS = "unstarted_grants"
    PRODUCER_CALLS = "producer_calls"
    SUBMISSIONS = "submissions"
    PRODUCER_LOG_READS = "producer_log_reads"
    WAITS = "waits"
    WAITS_OF_PRODUCER = "waits_of_producer"
    WAITING_JOBS = "waiting_jobs"
    ENDED_SESSIONS = "ended_sessions"
    BUNDLE_ANSWERS = "bundle_answers"
    BUNDLE_ANSWERS_OF_WORKER = "bundle_answers_of_worker"
    CHANGE_STREAMS = "change_streams"
    CHANGE_STREAMS_OF_OPERATOR = "change_streams_of_operator"


OnLimit = Callable[[Limit], None]
"""Called each time that a limit refuses, delays or closes something."""


def ignore(_: Limit) -> None:
    """For callers that count nothing."""
