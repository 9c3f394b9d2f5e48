"""Wires the relay's two applications, for workers and for operators, around one set of parts. No logic."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass

from aiohttp import web

from edge_broker.bundles.store import BundleStore
from edge_broker.ended_index import EndedIndex
from edge_relay.actions.absent_queues import AbsentQueues
from edge_relay.actions.queue_actions import QueueActions
from edge_relay.actions.site_actions import SiteActions
from edge_relay.actions.worker_actions import WorkerActions
from edge_relay.actions.worker_credentials import WorkerCredentialActions
from edge_relay.actions.worker_targets import WorkerTargets
from edge_relay.audit_list import AuditList
from edge_relay.bundles.access import BundleAccess
from edge_relay.bundles.delivery import BundleDelivery
from edge_relay.bundles.open_answers import OpenAnswers
from edge_relay.dispatch.long_polls import LongPolls
from edge_relay.dispatch.notices import Notices
from edge_relay.fleet.job_views import JobViews
from edge_relay.fleet.policies import PolicyViews
from edge_relay.http.bodies import JsonBodies
from edge_relay.http.browsers import Browsers
from edge_relay.http.callers import Callers
from edge_relay.http.handlers.bundles import BundleHandlers
from edge_relay.http.handlers.description import DescriptionHandlers
from edge_relay.http.handlers.enrollment import EnrollmentHandlers
from edge_relay.http.handlers.health import HealthHandlers, MetricsHandlers
from edge_relay.http.handlers.jobs import JobHandlers
from edge_relay.http.handlers.logs import LogHandlers
from edge_relay.http.handlers.passthrough import PassthroughHandlers
from edge_relay.http.handlers.poll import PollHandlers
from edge_relay.http.handlers.producers import ProducerHandlers, ProducerParts
from edge_relay.http.handlers.worker import WorkerHandlers
from edge_relay.http.middlewares import CallMiddlewares, finish_headers
from edge_relay.http.operator_callers import OperatorCallers, OperatorSignIn
from edge_relay.http.operators.access import AccessHandlers
from edge_relay.http.operators.actions import ActionHandlers
from edge_relay.http.operators.audit import AuditHandlers
from edge_relay.http.operators.job_actions import JobActionHandlers
from edge_relay.http.operators.overview import OverviewHandlers
from edge_relay.http.operators.policies import PolicyHandlers
from edge_relay.http.operators.sign_in import SignInHandlers
from edge_relay.http.operators.ui import UiHandlers
from edge_relay.http.operators.views import ViewHandlers
from edge_relay.http.operators.why import WhyHandlers
from edge_relay.http.producer_callers import ProducerCallers
from edge_relay.identity.operators.enroll_tokens import EnrollTokens
from edge_relay.jobs.administration import JobAdministration
from edge_relay.jobs.execution import ExecutionCalls
from edge_relay.jobs.finish import JobFinish
from edge_relay.jobs.parking import Parking
from edge_relay.jobs.release import JobRelease
from edge_relay.jobs.start import JobStart
from edge_relay.limits.kinds import Limit
from edge_relay.limits.rates import RateLimit
from edge_relay.logging import server_logger
from edge_relay.metrics.bundles import BundleMetrics
from edge_relay.metrics.producers import ProducerMetrics
from edge_relay.parts.build import Parts, build_parts
from edge_relay.pulls.demand_reports import DemandReports
from edge_relay.relay_beats import RelayBeats
from edge_relay.settings import Settings, SettingsError
from edge_relay.stores.log_reader import LogReader
from edge_relay.submissions.accept import SubmissionLimits, Submissions
from edge_relay.submissions.lists import SubmittedLists
from edge_relay.submissions.logs import SubmittedLogs
from edge_relay.submissions.status import SubmittedJobs
from edge_relay.submissions.waits import end_of, log_of
from edge_relay.why.airflow_side import AirflowSide
from edge_relay.why.answers import WhyAnswers
from edge_relay.why.for_producers import WaitCauses
from edge_relay.workers.access import AccessAdministration
from edge_relay.workers.enroll_command import EnrollCommand, enroll_command
from edge_relay.workers.enrollment import WorkerEnrollment
from edge_relay.workers.rotation import WorkerRotation
from edge_service import task_cleanup
from edge_ui.files import UiFiles

BURST_S = 5.0
"""A worker may send so many seconds' polls at once, and a producer so many seconds' calls and submissions."""
LOG_BURST_S = 8.0
"""A producer may read so many seconds' bytes at once."""


@dataclass(frozen=True, slots=True)
class Relay:
    """One replica, ready to be served.

    Attributes:
        workers: The exposed application. It starts and stops the parts: start it first and clean it up last.
        operators: The internal application.
        parts: What both share.
    """

    workers: web.Application
    operators: web.Application
    parts: Parts


def build(settings: Settings) -> Relay:
    """Build everything except open sockets.

    Raises:
        SettingsError: A secret can't be read.
    """
    parts = build_parts(settings)
    callers = Callers(parts.identity.credentials, parts.limits.worker_connections, parts.limits.addresses)
    browsers = Browsers(parts.limits.addresses, settings.operators_public_url)
    operators_sign_in = OperatorSignIn(
        parts.identity.credentials, parts.identity.sessions, browsers, parts.identity.oidc
    )
    operators_callers = OperatorCallers(parts.limits.addresses, operators_sign_in)
    health = HealthHandlers(parts.readiness).routes()
    workers = _application(parts, [*health, *_worker_routes(parts, callers)], browsers=None)
    for_operators = _operator_routes(parts, operators_callers)
    operators = _application(parts, [*health, *for_operators], browsers=browsers)
    running = _Running(parts)
    workers.cleanup_ctx.extend([running.spans, running.gate, running.identity_provider, running.loops])
    workers.on_shutdown.append(running.stop)
    return Relay(workers, operators, parts)


def _application(parts: Parts, served: list[web.RouteDef], *, browsers: Browsers | None) -> web.Application:
    """One application; the exposed one is not for browsers."""
    exposed = browsers is None
    connections = parts.limits.worker_connections if exposed else parts.limits.operator_connections
    middlewares = CallMiddlewares(
        parts.metrics, connections, parts.limits.malformed, exposed=exposed, browsers=browsers
    ).all()
    app = web.Application(middlewares=middlewares, client_max_size=parts.settings.max_body_bytes)
    app.on_response_prepare.append(finish_headers)
    app.add_routes(served)
    return app


def _worker_routes(parts: Parts, callers: Callers) -> list[web.RouteDef]:
    """What the exposed listener serves."""
    bodies = _json_bodies(parts)
    settings, broker, records, metrics = parts.settings, parts.broker, parts.records, parts.metrics
    parking = Parking(broker, parts.audit, metrics)
    unstarted, spans = parts.limits.unstarted, parts.spans
    start = JobStart(
        broker,
        records,
        parts.workers,
        parts.identity.receipt_key,
        limits=parts.queue_limits,
        unstarted=unstarted,
        metrics=metrics,
        spans=spans,
    )
    finish = JobFinish(records, parts.workers, parts.identity.receipt_key, parking, metrics=metrics, spans=spans)
    release = JobRelease(broker, records, parts.identity.receipt_key, parking, unstarted=unstarted, metrics=metrics)
    polls = LongPolls(parts.for_polls(), parts.audit, relay=settings.name, longest_s=settings.hold_s)
    execution = ExecutionCalls(parts.gate, records, parts.workers, metrics, settings.call_limits())
    poll_rate = RateLimit(settings.polls_per_s, settings.polls_per_s * BURST_S, Limit.POLLS, metrics.on_limit)
    enrollment = WorkerEnrollment(
        parts.identity.enrollments,
        parts.identity.lookups,
        parts.identity.credentials,
        parts.centre,
        audit=parts.audit,
        metrics=metrics,
    )
    return [
        *EnrollmentHandlers(callers, bodies, enrollment).routes(),
        *PollHandlers(callers, bodies, poll_rate, polls).routes(),
        *WorkerHandlers(
            callers, bodies, parts.centre, WorkerRotation(parts.identity.rotation, parts.identity.credentials)
        ).routes(),
        *JobHandlers(callers, bodies, start, finish, release).routes(),
        *LogHandlers(callers, parts.limits.body_memory, parts.logs, metrics).routes(),
        *PassthroughHandlers(callers, parts.limits.body_memory, execution).routes(),
        *BundleHandlers(callers, bodies, _bundle_delivery(parts)).routes(),
        *_producer_routes(parts, callers, bodies),
        *DescriptionHandlers().routes(),
    ]


def _bundle_delivery(parts: Parts) -> BundleDelivery:
    settings, metrics = parts.settings, parts.metrics
    return BundleDelivery(
        BundleAccess(parts.records, parts.workers),
        BundleStore(parts.broker),
        OpenAnswers(
            most=settings.bundle_answers, of_worker=settings.bundle_answers_per_worker, on_limit=metrics.on_limit
        ),
        parts.lifecycle,
        BundleMetrics(metrics.registry),
        cache_bytes=settings.bundle_cache_bytes,
    )


def _producer_routes(parts: Parts, callers: Callers, bodies: JsonBodies) -> list[web.RouteDef]:
    """What the exposed listener serves to producers."""
    settings, metrics, fleet = parts.settings, parts.metrics, parts.exports.fleet
    known, waits, on_limit = parts.known_jobs, parts.waits, parts.metrics.on_limit

    def rate(per_s: float, burst_s: float, limit: Limit) -> RateLimit:
        return RateLimit(per_s, per_s * burst_s, limit, on_limit)

    def site_of(worker: str) -> str | None:
        entry = fleet.entry(worker)
        return None if entry is None else entry.site

    limits = SubmissionLimits(
        rate(settings.submissions_per_s, BURST_S, Limit.SUBMISSIONS), settings.waiting_jobs, on_limit
    )
    jobs = SubmittedJobs(parts.broker, parts.records, parts.audit, waits, site_of)
    log_rate = rate(settings.producer_log_bytes_per_s, LOG_BURST_S, Limit.PRODUCER_LOG_READS)
    does = ProducerParts(
        Submissions(parts.records, parts.desired, known, limits, ProducerMetrics(metrics.registry, waits.__len__)),
        jobs,
        SubmittedLists(known, EndedIndex(parts.broker), parts.desired, site_of),
        SubmittedLogs(jobs, LogReader(parts.broker), waits, log_rate),
        WaitCauses(jobs, _why(parts, _job_views(parts)), parts.mirror),
    )
    call_rate = rate(settings.producer_calls_per_s, BURST_S, Limit.PRODUCER_CALLS)
    return ProducerHandlers(ProducerCallers(callers, parts.identity.credentials, call_rate), bodies, does).routes()


def _json_bodies(parts: Parts) -> JsonBodies:
    settings = parts.settings
    return JsonBodies(parts.limits.body_memory, small=settings.max_small_body_bytes, large=settings.max_body_bytes)


def _job_views(parts: Parts) -> JobViews:
    return JobViews(parts.views, parts.records, parts.settings.airflow_url)


def _why(parts: Parts, job_views: JobViews) -> WhyAnswers:
    return WhyAnswers(parts.broker, parts.records, parts.views, job_views, AirflowSide(parts.gate))


def _operator_routes(parts: Parts, callers: OperatorCallers) -> list[web.RouteDef]:
    """What the internal listener serves."""
    bodies, settings = _json_bodies(parts), parts.settings
    jobs = JobAdministration(parts.broker, parts.records, parts.audit)
    job_views = _job_views(parts)
    why = _why(parts, job_views)
    enroll_tokens = EnrollTokens(parts.broker)
    command = _enroll_command(parts)
    access = AccessAdministration(
        parts.identity.access_tokens,
        parts.identity.enrollments,
        enroll_tokens,
        parts.identity.credentials,
        command=command,
    )
    return [
        *MetricsHandlers(parts.exports).routes(),
        *UiHandlers(UiFiles(), settings.ui_frame_ancestors).routes(),
        *SignInHandlers(
            callers, bodies, relay=settings.name, provider=settings.oidc_name, airflow_url=settings.airflow_url
        ).routes(),
        *AccessHandlers(callers, bodies, access).routes(),
        *AuditHandlers(callers, AuditList(parts.broker)).routes(),
        *OverviewHandlers(callers, parts.views, parts.changes, command).routes(),
        *ViewHandlers(callers, parts.views, job_views).routes(),
        *JobActionHandlers(callers, bodies, job_views, jobs).routes(),
        *WhyHandlers(callers, why).routes(),
        *PolicyHandlers(callers, PolicyViews(parts.broker)).routes(),
        *_action_handlers(parts, callers).routes(),
    ]


def _enroll_command(parts: Parts) -> EnrollCommand:
    settings = parts.settings
    try:
        return enroll_command(settings.public_url, settings.public_ca_file, parts.centre)
    except ValueError as error:
        raise SettingsError(str(error)) from None


def _action_handlers(parts: Parts, callers: OperatorCallers) -> ActionHandlers:
    desired, store = parts.desired, parts.desired_store
    absent = AbsentQueues(parts.views.existing_queues)
    targets = WorkerTargets(parts.identity.credentials, desired, parts.exports.fleet, parts.identity.enrollments)
    of_credentials = WorkerCredentialActions(
        parts.identity.enrollments, parts.identity.rotation, parts.identity.credentials, parts.workers, store
    )
    return ActionHandlers(
        callers,
        _json_bodies(parts),
        WorkerActions(targets, desired, store, of_credentials, absent=absent),
        SiteActions(parts.identity.credentials, desired, store),
        QueueActions(desired, store, absent),
    )


class _Running:
    """Starts and stops the parts with the application."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def loops(self, _: web.Application) -> AsyncIterator[None]:
        """The connection to NATS and every loop of the relay. A loop that fails ends the process in order."""
        parts = self._parts
        parts.identity.credentials.on_change(parts.polls.credential_changed)
        parts.desired.on_change(parts.polls.desired_changed)
        parts.lifecycle.on_stop(parts.polls.wake_all)
        parts.exports.fleet.on_entry(parts.polls.entry_changed)
        parts.mirror.on_job(parts.polls.job_changed)
        parts.queue_limits.on_change(parts.dispatchers.limit_changed)
        parts.mirror.on_current(parts.polls.records_current)
        waits = parts.waits
        parts.mirror.on_end(lambda job, _: waits.wake(end_of(job)))
        parts.mirror.on_current(waits.wake_all)
        parts.identity.credentials.operators.on_revoked(waits.token_revoked)
        notices = Notices(
            parts.broker,
            parts.polls,
            parts.dispatchers,
            parts.identity.credentials,
            lambda job: waits.wake(log_of(job)),
        )
        relay_beats = RelayBeats(
            parts.broker,
            parts.workers,
            parts.lifecycle,
            parts.settings.name,
            on_proof=parts.exports.fleet.clock.record_proof,
        )
        demand_reports = DemandReports(parts.broker, parts.dispatchers, parts.settings.name)
        loops: dict[str, Coroutine[object, object, None]] = {
            "dispatchers": parts.dispatchers.run(),
            "notices": notices.run(),
            "records": parts.mirror.run(),
            "state-reads": parts.reads.run(),
            "credentials": parts.identity.credentials.run(),
            "desired-state": parts.desired.run(),
            "receipt-key": parts.identity.receipt_key.run(),
            "session-key": parts.identity.sessions.key.run(),
            "token-uses": parts.identity.token_uses.run(),
            "relay-beats": relay_beats.run(),
            "log-space": parts.log_space.run(),
            "demand-reports": demand_reports.run(),
            "fleet": parts.exports.fleet.run(),
            "outages": parts.outages.run(),
            "pending-events": parts.pending_events.run(),
            "upkeep": parts.upkeep.run(),
            "changes": parts.changes.run(),
            "shared-state": parts.exports.shared.run(),
            "loop-lag": parts.exports.lag.run(),
        }
        async with parts.broker, asyncio.TaskGroup() as group:
            tasks = [group.create_task(loop, name=name) for name, loop in loops.items()]
            yield
            await task_cleanup.cancel_and_wait(tasks)

    async def spans(self, _: web.Application) -> AsyncIterator[None]:
        """Remaining spans are sent last."""
        yield
        await asyncio.to_thread(self._parts.spans.close)

    async def gate(self, _: web.Application) -> AsyncIterator[None]:
        """The connections to the keepers' gates, if there are any."""
        if self._parts.gate is None:
            yield
            return
        async with self._parts.gate:
            yield

    async def identity_provider(self, _: web.Application) -> AsyncIterator[None]:
        """The connections to the identity provider, if one is set."""
        if self._parts.identity.oidc is None:
            yield
            return
        async with self._parts.identity.oidc:
            yield

    async def stop(self, _: web.Application) -> None:
        """Answer parked polls; calls in progress continue."""
        self._parts.lifecycle.stop()


def runner(app: web.Application, parts: Parts) -> web.AppRunner:
    """How an application is served, in production and in tests alike.

    A handler is cancelled when its client leaves. The server does not decompress bodies: a handler that accepts an
    encoding bounds the result itself.
    """
    settings = parts.settings
    return web.AppRunner(
        app,
        handler_cancellation=True,
        auto_decompress=False,
        access_log=None,
        logger=server_logger(settings.name, parts.limits.malformed.record),
        shutdown_timeout=settings.stop_timeout_s,
        keepalive_timeout=settings.idle_s,
        lingering_time=2.0,
        max_line_size=settings.call_limits().max_line_bytes,
    )
