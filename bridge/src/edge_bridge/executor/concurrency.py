"""Concurrent calls, a few at a time, and what becomes of an item that fails for a reason of its own."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import structlog
from sqlalchemy.exc import SQLAlchemyError

from edge_bridge.airflow.dispatch_table import Entry
from edge_bridge.executor.metrics import TeamMetrics
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError

log = structlog.get_logger(__name__)

T = TypeVar("T")
CONCURRENCY = 16
SHARED_FAULTS = (BrokerUnavailable, JetStreamError, SQLAlchemyError, TimeoutError)
"""NATS or the database fails: the next item would fail as well."""


async def gather_bounded(
    items: Iterable[T], do: Callable[[T], Awaitable[None]], put_aside: Callable[[T, Exception], None]
) -> None:
    """Call a function for each item, at most `CONCURRENCY` at a time.

    A shared fault is raised after all ended. An item that fails otherwise is put aside; the others are not affected.
    """
    limit = asyncio.Semaphore(CONCURRENCY)

    async def call(item: T) -> None:
        async with limit:
            try:
                await do(item)
            except SHARED_FAULTS:
                raise
            except Exception as error:  # noqa: BLE001  # reported by `put_aside`
                put_aside(item, error)

    results = await asyncio.gather(*(call(item) for item in items), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


def put_aside(metrics: TeamMetrics, step: str, job: str, error: Exception) -> None:
    """Report that a step failed for one job, for a reason that concerns only this job."""
    metrics.put_aside(step)
    log.error("job_put_aside", step=step, job=job, error=repr(error), exc_info=error)


def entry_aside(metrics: TeamMetrics, step: str) -> Callable[[Entry, Exception], None]:
    """`put_aside` for the entries of one step."""
    return lambda entry, error: put_aside(metrics, step, entry.job, error)
