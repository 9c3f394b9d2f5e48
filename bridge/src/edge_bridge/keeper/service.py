"""The keeper's process: builds the parts, runs their loops in one task group, ends on a signal."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import structlog
from aiohttp import web

from edge_bridge.keeper.bundles.metrics import BundleMetrics
from edge_bridge.keeper.bundles.service import BundleCare
from edge_bridge.keeper.cluster_view import ClusterView
from edge_bridge.keeper.database_watch import DatabaseWatch
from edge_bridge.keeper.dispatch import Dispatches, TaskRow
from edge_bridge.keeper.gate.centre import CentreView
from edge_bridge.keeper.gate.passthrough import PassThrough
from edge_bridge.keeper.gate.server import build_app
from edge_bridge.keeper.gate.upstream import ALL_TRIES_S, ExecutionApi
from edge_bridge.keeper.give_up_figures import GiveUpFigures
from edge_bridge.keeper.metrics import KeeperMetrics, KeeperState
from edge_bridge.keeper.policy.need_to_know import NeedToKnow
from edge_bridge.keeper.settings import KeeperSettings
from edge_bridge.keeper.task_heartbeats import TaskHeartbeats
from edge_bridge.keeper.tokens import TokenMint
from edge_bridge.keeper.why.desired_view import DesiredView
from edge_bridge.keeper.why.task_answers import TaskAnswers
from edge_bridge.keeper.why.waiting_lines import WaitingLines
from edge_bridge.keeper.withdrawals import Withdrawals
from edge_bridge.signing.trust import CentreTrust
from edge_bridge.tracing import CentreJobSpans
from edge_broker.audit import Audit
from edge_broker.bundles.published import PublishedBundles
from edge_broker.connection.broker import Broker
from edge_broker.record_mover import RecordMover
from edge_broker.records import RecordStore
from edge_schemas.life.model import JobRecord
from edge_service import task_cleanup
from edge_service.body_memory import BodyMemory
from edge_service.tracing import spans_from_environment
from edge_upkeep.give_up import GiveUps

log = structlog.get_logger(__name__)

STOP_WAIT_S = ALL_TRIES_S + 5.0
"""For calls that are under way: longer than the longest call takes."""
CHECK_OVERDUE_S = 30.0


class Keeper:
    """A running keeper.

    Attributes:
        port: Of the gate; the port in use if the settings name 0.
    """

    def __init__(
        self,
        settings: KeeperSettings,
        broker: Broker,
        dispatches: Dispatches,
        api: ExecutionApi,
        *,
        bundle_broker: Broker,
        metrics: KeeperMetrics,
        spans: CentreJobSpans,
    ) -> None:
        from airflow import __version__ as airflow_version

        self._settings = settings
        self._metrics = metrics
        self._broker = broker
        records = RecordStore(broker)
        withdrawals = Withdrawals(broker, records, metrics)
        self._mover = RecordMover(records)
        self._view = ClusterView(broker, self._mover, metrics.put_aside)
        self._heartbeats = TaskHeartbeats(
            self._view, dispatches, withdrawals, api, settings.heartbeats, metrics=metrics
        )
        self._watch = DatabaseWatch(self._view, dispatches, withdrawals, self._on_checked, metrics=metrics)
        by = f"keeper {socket.gethostname()}"
        audit = Audit(broker, by)
        self._bundles = BundleCare(
            settings.bundles, bundle_broker, dispatches, metrics=BundleMetrics(metrics.registry), by=by
        )
        self._give_ups = GiveUps(self._view, broker, records, audit, GiveUpFigures(metrics, spans))
        self._desired = DesiredView(broker)
        self._need_to_know = NeedToKnow(broker, self._view.worker, metrics.registry)
        self._lines = WaitingLines(self._view, self._desired, broker, airflow=airflow_version)
        metrics.registry.register(KeeperState(broker, self._view, self._mover, lambda: self._watch.checked_s_ago))
        self._memory = BodyMemory(settings.body_memory_bytes, settings.worker_body_memory_bytes, metrics.on_limit)
        metrics.body_bytes.set_function(lambda: self._memory.used)
        trust = CentreTrust(settings.signing, partial(metrics.put_aside, "signature"))
        self._app = build_app(
            settings.gate_secret,
            PassThrough(records, dispatches, api, trust, self._need_to_know, limits=settings.limits),
            CentreView(settings.runtime_lock, trust),
            self.health,
            metrics=metrics,
            memory=self._memory,
            why=TaskAnswers(dispatches, PublishedBundles(broker)),
            limits=settings.limits,
        )
        self.port = settings.gate_port

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then answer the calls under way and return.

        Raises:
            OSError: The gate's address can't be listened on.
        """
        async with self._listening(), asyncio.TaskGroup() as group:
            loops = [
                group.create_task(self._view.run(), name="keeper-cluster-view"),
                group.create_task(self._watch.run(), name="keeper-watch"),
                group.create_task(self._heartbeats.run(), name="keeper-heartbeats"),
                group.create_task(self._give_ups.run(), name="keeper-give-ups"),
                group.create_task(self._desired.run(), name="keeper-desired-state"),
                group.create_task(self._need_to_know.view.run(), name="keeper-policies"),
                group.create_task(self._need_to_know.counter.run(), name="keeper-accesses"),
                group.create_task(self._lines.run(), name="keeper-waiting-lines"),
                group.create_task(self._mover.run(), name="keeper-record-mover"),
                group.create_task(self._bundles.run(), name="keeper-bundles"),
                group.create_task(self._metrics.measure_lag(), name="keeper-lag"),
            ]
            log.info("keeper_ready", host=self._settings.gate_host, port=self.port)
            await stop.wait()
            log.info("keeper_stopping")
            await task_cleanup.cancel_and_wait(loops)
        # The gate has answered its last call.
        await self._need_to_know.counter.flush()

    def health(self) -> dict[str, object]:
        """For `/healthz`: `ok` means that calls can be answered and Airflow is being watched."""
        checked = self._watch.checked_s_ago
        watching = checked is not None and checked < CHECK_OVERDUE_S
        return {
            "ok": self._broker.connected and self._view.complete and self._need_to_know.view.complete and watching,
            "broker_connected": self._broker.connected,
            "view_complete": self._view.complete,
            "policies_known": self._need_to_know.view.complete,
            "database_checked_s_ago": None if checked is None else round(checked, 1),
            "contact_possible": self._view.contact_possible,
            "unfinished_jobs": len(self._view.unfinished()),
        }

    def _on_checked(self, records: list[JobRecord], rows: Mapping[str, TaskRow]) -> None:
        self._heartbeats.add_due(records, rows, datetime.now(UTC))

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        # A call under way is completed even if its caller disconnects: Airflow's answer must be remembered.
        runner = web.AppRunner(
            self._app,
            access_log=None,
            handler_cancellation=False,
            shutdown_timeout=STOP_WAIT_S,
            keepalive_timeout=75,
            max_line_size=self._settings.limits.max_line_bytes,
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, self._settings.gate_host, self.port)
            await site.start()
            self.port = runner.addresses[0][1]
            yield
        finally:
            await runner.cleanup()


async def serve(settings: KeeperSettings, mint: TokenMint) -> None:
    """Run a keeper until SIGTERM or SIGINT. It starts even if NATS, api-server or database is down, and waits."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running_parts(settings, mint) as keeper:
        await keeper.run(stop)


@asynccontextmanager
async def running_parts(settings: KeeperSettings, mint: TokenMint) -> AsyncIterator[Keeper]:
    """A keeper with its connections, which are closed at the end of the context."""
    metrics, spans = KeeperMetrics(), CentreJobSpans(spans_from_environment("keeper"))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, spans.close)
        broker = await stack.enter_async_context(Broker(settings.broker))
        api = await stack.enter_async_context(ExecutionApi(settings.execution_api_url, mint, metrics, settings.limits))
        bundle_broker = await stack.enter_async_context(Broker(settings.broker))
        yield Keeper(settings, broker, Dispatches(), api, bundle_broker=bundle_broker, metrics=metrics, spans=spans)
