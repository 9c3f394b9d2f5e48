"""Builds the relay's two applications, for workers and for operators, around one set of parts. No logic."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from edge_broker.audit import Audit
from edge_broker.connection.broker import Broker
from edge_broker.records import RecordStore
from edge_relay.dispatch.dispatchers import Dispatchers
from edge_relay.dispatch.notices import Notices
from edge_relay.dispatch.polls import ParkedPolls
from edge_relay.gate.centre import Centre
from edge_relay.gate.client import GateClient
from edge_relay.heartbeat import Beats
from edge_relay.http import keys
from edge_relay.http.handlers import admin, description, enrollment, health, jobs, logs, passthrough, poll, worker
from edge_relay.http.middlewares import finish_headers, middlewares
from edge_relay.identity.access import AccessStore
from edge_relay.identity.credentials import Credentials
from edge_relay.identity.receipts import ReceiptKey
from edge_relay.lifecycle import Lifecycle
from edge_relay.logging import server_logger
from edge_relay.metrics.exports import exports
from edge_relay.settings import Settings
from edge_relay.stores.holders import Holders
from edge_relay.stores.log_store import LogStore
from edge_relay.stores.worker_store import WorkerStore
from edge_relay.tracing import JobSpans
from edge_service import task_cleanup
from edge_service.tracing import spans_from_environment


@dataclass(frozen=True, slots=True)
class Relay:
    """One replica, ready to be served.

    Attributes:
        workers: The exposed application. It owns the parts: start it first and clean it up last.
        operators: The internal application.
    """

    workers: web.Application
    operators: web.Application


def build(settings: Settings) -> Relay:
    """Everything but open sockets.

    Raises:
        SettingsError: A secret can't be read.
    """
    workers = web.Application(middlewares=middlewares(), client_max_size=settings.max_body_bytes)
    operators = web.Application(middlewares=middlewares(), client_max_size=settings.max_body_bytes)
    parts = _parts(settings)
    for app in (workers, operators):
        for key, part in parts.items():
            app[key] = part
        app[keys.EXPOSED] = app is workers
        app.on_response_prepare.append(finish_headers)
        health.routes_of_both(app)
    _add_worker_routes(workers)
    _add_operator_routes(operators)
    workers.cleanup_ctx.append(_traces)
    workers.cleanup_ctx.append(_gate)
    workers.cleanup_ctx.append(_running)
    workers.on_shutdown.append(_stop)
    return Relay(workers, operators)


def _add_worker_routes(app: web.Application) -> None:
    """What the exposed listener serves."""
    enrollment.add_routes(app)
    poll.add_routes(app)
    worker.add_routes(app)
    jobs.add_routes(app)
    logs.add_routes(app)
    passthrough.add_routes(app)
    description.add_routes(app)


def _add_operator_routes(app: web.Application) -> None:
    """What the internal listener serves."""
    health.routes_of_operators(app)
    admin.add_routes(app)


def _parts(settings: Settings) -> dict[web.AppKey[Any], Any]:
    broker = Broker(settings.broker())
    records = RecordStore(broker)
    credentials = Credentials(broker)
    exported = exports(broker, credentials, settings.tls_cert_file)
    metrics = exported.metrics
    gate = GateClient.from_settings(settings)
    return {
        keys.SETTINGS: settings,
        keys.LIFECYCLE: Lifecycle(),
        keys.EXPORTS: exported,
        keys.METRICS: metrics,
        keys.TRACES: JobSpans(spans_from_environment("relay")),
        keys.WORKERS: WorkerStore(broker),
        keys.POLLS: ParkedPolls(metrics),
        keys.DISPATCHERS: Dispatchers(broker, metrics),
        keys.BROKER: broker,
        keys.RECORDS: records,
        keys.HOLDERS: Holders(records),
        keys.LOGS: LogStore(broker),
        keys.GATE: gate,
        keys.CENTRE: Centre(gate),
        keys.ACCESS: AccessStore(broker),
        keys.CREDENTIALS: credentials,
        keys.RECEIPT_KEY: ReceiptKey(broker),
        keys.AUDIT: Audit(broker, relay=settings.name),
    }


async def _running(app: web.Application) -> AsyncIterator[None]:
    """The connection to NATS and every loop of the relay. A loop that dies ends the process in order."""
    credentials, polls, dispatchers = app[keys.CREDENTIALS], app[keys.POLLS], app[keys.DISPATCHERS]
    credentials.on_change(polls.credential_changed)
    app[keys.LIFECYCLE].on_stop(polls.wake_all)
    app[keys.BROKER].on_connection(polls.recheck_all)
    exported = app[keys.EXPORTS]
    loops: dict[str, Coroutine[Any, Any, None]] = {
        "dispatchers": dispatchers.run(),
        "notices": Notices(app[keys.BROKER], polls, dispatchers, credentials).run(),
        "credentials": credentials.run(),
        "receipt-key": app[keys.RECEIPT_KEY].run(),
        "beats": Beats(app[keys.BROKER], app[keys.WORKERS], app[keys.LIFECYCLE], app[keys.SETTINGS].name).run(),
        "fleet": exported.fleet.run(),
        "shared-state": exported.shared.run(),
        "loop-lag": exported.lag.run(),
    }
    async with app[keys.BROKER], asyncio.TaskGroup() as group:
        tasks = [group.create_task(loop, name=name) for name, loop in loops.items()]
        yield
        await task_cleanup.cancel_and_wait(tasks)


async def _traces(app: web.Application) -> AsyncIterator[None]:
    """What is left to tell is sent last."""
    yield
    await asyncio.to_thread(app[keys.TRACES].close)


async def _gate(app: web.Application) -> AsyncIterator[None]:
    """The connections to the keepers' gates, if there are any."""
    gate = app[keys.GATE]
    if gate is None:
        yield
        return
    async with gate:
        yield


async def _stop(app: web.Application) -> None:
    """Answer whoever waits; calls in progress go on."""
    app[keys.LIFECYCLE].stop()


def runner(app: web.Application, settings: Settings) -> web.AppRunner:
    """How an application is served, in production and in tests alike.

    A handler is cancelled when its client leaves. Bodies are not decompressed by the server: a handler that accepts an
    encoding bounds the result itself.
    """
    return web.AppRunner(
        app,
        handler_cancellation=True,
        auto_decompress=False,
        access_log=None,
        logger=server_logger(),
        shutdown_timeout=settings.stop_timeout_s,
        keepalive_timeout=75.0,
        lingering_time=2.0,
    )
