"""`POST /v1/poll`: the one long-poll of a worker."""

import asyncio
import math
import uuid
from datetime import UTC, datetime

import structlog
from aiohttp import web

from edge_relay.dispatch.poll_session import PollParts, PollSession
from edge_relay.dispatch.polls import ParkedPoll
from edge_relay.http import keys
from edge_relay.http.bodies import json_response, read_model
from edge_relay.http.callers import require_worker
from edge_relay.identity.credentials import Principal
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.polls import SUPPORTED_PROTOCOLS, Poll, PollAnswer
from edge_schemas.wire.worker_entry import AgentSeen, WorkerEntry

log = structlog.get_logger(__name__)


def add_routes(app: web.Application) -> None:
    """Serve polls."""
    app.router.add_post(routes.POLL, poll)


async def poll(request: web.Request) -> web.StreamResponse:
    """Park a poll until there is something to tell its worker, or its hold is over."""
    app = request.app
    principal = await require_worker(request)
    report = await read_model(request, Poll)
    check_report(report)
    app[keys.LIFECYCLE].check()
    parked = ParkedPoll(principal.worker, principal.secret_hash, report, agent_seen(report, request.remote))
    with app[keys.POLLS].parked(parked):
        try:
            return await _answer(request, principal, parked)
        except (asyncio.CancelledError, ConnectionError):
            if not app[keys.LIFECYCLE].stopping.is_set():  # else it was us who closed the connection
                await app[keys.WORKERS].leave(parked.worker, parked.agent.arrival)
            raise


async def _answer(request: web.Request, principal: Principal, parked: ParkedPoll) -> web.StreamResponse:
    """Let the poll arrive, then wait with it."""
    app = request.app
    new = worker_entry(app, principal, parked)
    known = await app[keys.WORKERS].arrive(new, superseded_by=parked.poll.superseded_by)
    app[keys.POLLS].arrived(parked, known)
    await report_conflict(app, known.entry, parked.agent)
    session = PollSession(_parts(app), parked, known.entry, new.poll_timeout_s)
    sent = web.Response(status=204)

    async def send(answer: PollAnswer | None) -> None:
        nonlocal sent
        sent = web.Response(status=204) if answer is None else json_response(answer)
        # Written here and not by the server: a connection that is gone must be noticed while grants can go back.
        await sent.prepare(request)
        await sent.write_eof()

    try:
        await session.answer(send)
    finally:
        await session.give_back(parked.demand.close())
    return sent


def _parts(app: web.Application) -> PollParts:
    return PollParts(
        lifecycle=app[keys.LIFECYCLE],
        polls=app[keys.POLLS],
        dispatchers=app[keys.DISPATCHERS],
        credentials=app[keys.CREDENTIALS],
        receipt_key=app[keys.RECEIPT_KEY],
        centre=app[keys.CENTRE],
        broker=app[keys.BROKER],
        records=app[keys.RECORDS],
        workers=app[keys.WORKERS],
        metrics=app[keys.METRICS],
    )


def check_report(report: Poll) -> None:
    """What the model can't say.

    Raises:
        EdgeError: `protocol_unsupported` or `invalid_request`.
    """
    if report.protocol not in SUPPORTED_PROTOCOLS:
        served = ", ".join(map(str, SUPPORTED_PROTOCOLS))
        raise EdgeError(ErrorCode.PROTOCOL_UNSUPPORTED, f"this relay serves protocol {served}")
    if report.free > report.slots:
        raise EdgeError(ErrorCode.INVALID_REQUEST, "free: must not exceed slots")
    if not math.isfinite(report.poll_timeout_s):
        raise EdgeError(ErrorCode.INVALID_REQUEST, "poll_timeout_s: must be a number")
    if len({job.id for job in report.jobs}) != len(report.jobs):
        raise EdgeError(ErrorCode.INVALID_REQUEST, "jobs: a job is listed twice")


def poll_timeout_s(report: Poll, longest_s: float) -> float:
    """How long a poll may be held: long holds would leave too few contacts before the fence of a job comes down."""
    contracts = [job.offline.longest_poll_timeout_s for job in report.jobs if job.offline is not None]
    return min(report.poll_timeout_s, longest_s, *contracts)


def agent_seen(report: Poll, address: str | None) -> AgentSeen:
    """Who polls, with a new arrival."""
    return AgentSeen(
        instance=report.instance,
        incarnation=report.incarnation,
        seq=report.seq,
        arrival=uuid.uuid4().hex,
        host=report.host,
        address=address or "",
        last_poll_at=datetime.now(UTC),
    )


async def report_conflict(app: web.Application, entry: WorkerEntry, agent: AgentSeen) -> None:
    """Say once, with the arrival that brought it to light, that two agents use one credential."""
    conflict = entry.conflict
    if conflict is None or conflict.since != agent.last_poll_at:
        return
    facts = {
        f"{side}_{name}": str(getattr(seen, name))
        for side, seen in (("older", conflict.older), ("newer", conflict.newer))
        for name in ("host", "address", "incarnation")
    }
    log.error("credential_copied", worker=entry.worker, **facts)
    await app[keys.AUDIT].record("credential-copied", worker=entry.worker, **facts)


def worker_entry(app: web.Application, principal: Principal, parked: ParkedPoll) -> WorkerEntry:
    """The heartbeat message of an arriving poll."""
    report = parked.poll
    return WorkerEntry(
        worker=principal.worker,
        site=principal.site,
        team=principal.team,
        queues=principal.settings.queues,
        agent=parked.agent,
        relay=app[keys.SETTINGS].name,
        poll_timeout_s=poll_timeout_s(report, app[keys.SETTINGS].poll_timeout_s),
        slots=report.slots,
        free=report.free,
        draining=report.draining,
        no_jobs_reason=report.no_jobs_reason,
        jobs=report.jobs,
        versions=report.versions,
        health=report.health,
    )
