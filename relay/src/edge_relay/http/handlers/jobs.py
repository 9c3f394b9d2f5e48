"""What a worker does with a granted job: start it, finish it, give it back."""

import random
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog
from aiohttp import web

from edge_broker.connection.broker import Broker
from edge_broker.jetstream.message import ack, nak, term
from edge_broker.subjects import dead_subject
from edge_relay.http import keys
from edge_relay.http.bodies import job_of, read_model
from edge_relay.http.callers import require_worker
from edge_relay.http.shielded import run_to_completion
from edge_relay.identity.credentials import Principal
from edge_relay.identity.receipts import Receipt, open_receipt
from edge_relay.metrics.replica import Metrics, queue_of
from edge_schemas.life.agents import check_taken_over
from edge_schemas.life.events import Finish, Release, Start
from edge_schemas.life.model import JobRecord
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.job_calls import FinishRequest, ReleaseRequest, StartRequest
from edge_schemas.wire.polls import GRANT_WAIT_S

log = structlog.get_logger(__name__)

MAX_RELEASE_DELAY_S = 15.0
_NOT_WAITING = frozenset({ErrorCode.JOB_ENDED, ErrorCode.NOT_HOLDER, ErrorCode.WRONG_STATE})
"""Refusals that mean: the record no longer waits to be started, so its message must go."""


def add_routes(app: web.Application) -> None:
    """Serve start, finish and release."""
    app.router.add_post(routes.JOB_START, start)
    app.router.add_post(routes.JOB_FINISH, finish)
    app.router.add_post(routes.JOB_RELEASE, release)


async def start(request: web.Request) -> web.Response:
    """`POST /v1/jobs/{job}/start`: exactly one worker becomes the holder; a repeat gets the same answer."""
    principal, job = await _caller(request)
    body = await read_model(request, StartRequest)
    receipt = await _open(request.app, body.receipt, job, principal)
    await run_to_completion(_start(request.app, principal, receipt, body.incarnation))
    return web.Response(status=204)


async def finish(request: web.Request) -> web.Response:
    """`POST /v1/jobs/{job}/finish`: the holder reports that the processes are gone; a repeat gets the same answer."""
    principal, job = await _caller(request)
    body = await read_model(request, FinishRequest)
    grant = None if body.receipt is None else (await _open(request.app, body.receipt, job, principal)).grant
    event = Finish(principal.worker, body.exit_code, body.reason, datetime.now(UTC), body.release, grant)
    await run_to_completion(_finish(request.app, principal, job, event, body.incarnation))
    return web.Response(status=204)


async def release(request: web.Request) -> web.Response:
    """`POST /v1/jobs/{job}/release`: give a granted job back, later for each time; put it aside after too many."""
    principal, job = await _caller(request)
    body = await read_model(request, ReleaseRequest)
    receipt = await _open(request.app, body.receipt, job, principal)
    if receipt.expired(datetime.now(UTC)):
        # Its ack subject would settle a later delivery, which may be another worker's.
        raise EdgeError(ErrorCode.RECEIPT_EXPIRED)
    event = Release(principal.worker, body.reason, body.counted, datetime.now(UTC), receipt.grant)
    await run_to_completion(_release(request.app, receipt, event))
    return web.Response(status=204)


async def _caller(request: web.Request) -> tuple[Principal, str]:
    principal = await require_worker(request)
    job = job_of(request)
    structlog.contextvars.bind_contextvars(job=job)
    return principal, job


async def _open(app: web.Application, sealed: str, job: str, principal: Principal) -> Receipt:
    return open_receipt(await app[keys.RECEIPT_KEY].get(), sealed, job=job, worker=principal.worker)


async def _start(app: web.Application, principal: Principal, receipt: Receipt, incarnation: int) -> None:
    broker = app[keys.BROKER]
    if receipt.expired(datetime.now(UTC)):
        await _require_started(app, receipt)
    if receipt.consumer not in principal.consumers and not await _is_holder(app, receipt):
        await nak(broker, receipt.ack_subject)
        raise EdgeError(ErrorCode.FORBIDDEN, "the worker no longer serves this queue")
    event = Start(principal.worker, incarnation, datetime.now(UTC), receipt.grant)
    try:
        before, after = await app[keys.RECORDS].change(
            receipt.job, event, first=lambda before, _: _check_taken_over(app, before, incarnation)
        )
    except EdgeError as error:
        if error.code in _NOT_WAITING:
            await ack(broker, receipt.ack_subject)
        raise
    await ack(broker, receipt.ack_subject)
    if after is not before:
        if before.holder is None:
            _count_start(app[keys.METRICS], receipt, after, event.at)
        app[keys.TRACES].started(before, after, receipt, principal.site)
        log.info("job_started", queue=after.queue)


def _count_start(metrics: Metrics, receipt: Receipt, record: JobRecord, at: datetime) -> None:
    """Once for each hold, whatever is repeated."""
    metrics.starts.labels(*queue_of(record)).inc()
    waited = at - (receipt.expires_at - timedelta(seconds=GRANT_WAIT_S))
    metrics.start_confirm_seconds.observe(max(0.0, waited.total_seconds()))


async def _require_started(app: web.Application, receipt: Receipt) -> None:
    """A late start is a repeat whose first answer was lost, or it is too late.

    Raises:
        EdgeError: `receipt_expired`.
    """
    if not await _is_holder(app, receipt):
        raise EdgeError(ErrorCode.RECEIPT_EXPIRED)


async def _is_holder(app: web.Application, receipt: Receipt) -> bool:
    """A worker asks for its own job after a cut: whatever has become of its queues, it may finish what it began."""
    record = await app[keys.RECORDS].get(receipt.job)
    return record is not None and record.holder is not None and record.holder.worker == receipt.worker


async def _check_taken_over(app: web.Application, record: JobRecord, incarnation: int) -> None:
    """Refuse an agent that takes up a job of an older one of its worker, as long as that one may live.

    Raises:
        EdgeError: `takeover_pending`.
    """
    holder = record.holder
    if holder is not None and incarnation > holder.incarnation:
        entry = await app[keys.WORKERS].get(holder.worker)
        check_taken_over(entry, holder=holder.incarnation, incarnation=incarnation, now=datetime.now(UTC))


async def _finish(app: web.Application, principal: Principal, job: str, event: Finish, incarnation: int | None) -> None:
    async def first(before: JobRecord, after: JobRecord) -> None:
        if incarnation is not None:
            await _check_taken_over(app, before, incarnation)
        await _keep_history(app[keys.BROKER], before, after)

    before, after = await app[keys.RECORDS].change(job, event, first=first)
    if after is before:
        return
    app[keys.TRACES].finished(before, after, event.at, principal.site)
    if after.outcome is not None:
        metrics = app[keys.METRICS]
        metrics.finishes.labels(*queue_of(after), after.outcome.verdict).inc()
        if before.holder is not None:
            run = event.at - before.holder.started_at
            metrics.run_seconds.labels(*queue_of(after)).observe(max(0.0, run.total_seconds()))
        log.info("job_finished", queue=after.queue, verdict=after.outcome.verdict, reason=after.outcome.reason)
        return
    # No message is there to be given back: it went at the start. The executor watches records and publishes it again.
    app[keys.METRICS].started_releases.labels(*queue_of(after)).inc()
    log.info("job_given_back", queue=after.queue, reason=event.reason, releases=len(after.releases))
    if after.parked is not None:
        app[keys.METRICS].parked.labels(*queue_of(after)).inc()
        await _tell_of_parking(app, after)


async def _release(app: web.Application, receipt: Receipt, event: Release) -> None:
    broker = app[keys.BROKER]
    try:
        # History, record, message. So no job is parked without its history, whatever fails and whether or not anybody
        # calls again; a history whose job was not parked after all does no harm, as the record decides. The message
        # goes last: until then the job comes back after the grant wait.
        before, after = await app[keys.RECORDS].change(receipt.job, event, first=partial(_keep_history, broker))
    except EdgeError as error:
        if error.code in _NOT_WAITING:
            await ack(broker, receipt.ack_subject)
        raise
    if after is not before or not event.counted:
        app[keys.METRICS].releases.labels(*queue_of(after)).inc()
    if after.parked is not None and before.parked is None:
        app[keys.METRICS].parked.labels(*queue_of(after)).inc()
    releases = len(after.releases)
    log.info("job_released", queue=after.queue, reason=event.reason, counted=event.counted, releases=releases)
    if after.parked is None:
        await nak(broker, receipt.ack_subject, delay_s=release_delay_s(releases))
    else:
        await term(broker, receipt.ack_subject, "parked")
        await _tell_of_parking(app, after)


async def _keep_history(broker: Broker, _: JobRecord, after: JobRecord) -> None:
    """Put the history of a job that is about to be parked where operators look. A repeat writes it anew."""
    if after.parked is not None:
        history = after.model_dump_json(exclude={"job"}, exclude_none=True).encode()
        await broker.store(dead_subject(after.team, after.queue, after.id), history)


async def _tell_of_parking(app: web.Application, record: JobRecord) -> None:
    """Operators have to look at it."""
    await app[keys.AUDIT].record("job-parked", job=record.id, queue=record.queue, reason=record.parked)
    log.warning("job_parked", queue=record.queue, reason=record.parked)


def release_delay_s(releases: int) -> float:
    """How long a job that was given back this many times stays away: 1 s at first, 15 s at most, with jitter."""
    delay = min(MAX_RELEASE_DELAY_S, 2.0 ** max(0, releases - 1))
    return delay * random.uniform(0.9, 1.0)  # noqa: S311  # jitter, nothing secret
