"""Serves one replica: two listeners, signals, and a stop that loses nothing."""

import asyncio
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog
import uvloop
from aiohttp import web

from edge_relay.app import build, runner
from edge_relay.http.listener import Listener
from edge_relay.parts.build import Parts
from edge_relay.settings import Settings, SettingsError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Serving:
    """A replica that accepts connections.

    Attributes:
        workers_url: Of the exposed listener, with the address it is bound to.
        operators_url: Of the internal listener.
        parts: The parts of the replica.
    """

    workers_url: str
    operators_url: str
    parts: Parts


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Serving]:
    """Serve while inside; at the end, parked polls are answered, calls in progress end, and NATS is flushed.

    Raises:
        SettingsError: A file can't be read, or an address can't be bound.
    """
    tls = tls_context(settings)
    relay = build(settings)
    async with AsyncExitStack() as stack:
        workers = await _start(stack, relay.workers, relay.parts)
        operators = await _start(stack, relay.operators, relay.parts)
        port, operators_port = await _listen(stack, relay.parts, workers, operators, tls)
        scheme = "https" if tls else "http"
        urls = f"{scheme}://{settings.host}:{port}", f"http://{settings.operators_host}:{operators_port}"
        relay.parts.lifecycle.serve()
        log.info("relay_serving", workers=urls[0], operators=urls[1], relay=settings.name)
        try:
            yield Serving(*urls, relay.parts)
        finally:
            relay.parts.lifecycle.stop()
            log.info("relay_stopping", delay_s=settings.stop_delay_s)
            await asyncio.sleep(settings.stop_delay_s)


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; a second signal ends the process at once.

    Raises:
        SettingsError: See `serving`.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(settings):
        await stop.wait()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    log.info("relay_stopped")


def run(settings: Settings) -> None:
    """Serve in this process, on uvloop: a TLS connection needs an eighth of the memory that it needs on asyncio."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop_runner:
        loop_runner.run(serve(settings))


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """TLS of the workers' listener; None without a certificate.

    Raises:
        SettingsError: The files hold no certificate with its private key.
    """
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
    except (OSError, ssl.SSLError) as error:
        text = f"RELAY_TLS_CERT_FILE and RELAY_TLS_KEY_FILE can't be used: {error}"
        raise SettingsError(text) from error
    return context


async def _start(stack: AsyncExitStack, app: web.Application, parts: Parts) -> web.AppRunner:
    app_runner = runner(app, parts)
    stack.push_async_callback(app_runner.cleanup)
    await app_runner.setup()
    return app_runner


async def _listen(
    stack: AsyncExitStack,
    parts: Parts,
    workers: web.AppRunner,
    operators: web.AppRunner,
    tls: ssl.SSLContext | None,
) -> tuple[int, int]:
    """Listen for workers and for operators; returns both ports."""
    settings, addresses = parts.settings, parts.limits.addresses
    first_request_s = settings.first_request_s
    for_workers = Listener(
        workers, parts.limits.worker_connections, addresses, tls=tls, first_request_s=first_request_s
    )
    for_operators = Listener(operators, parts.limits.operator_connections, addresses, tls=None, first_request_s=None)
    return (
        await _start_listener(stack, for_workers, (settings.host, settings.port)),
        await _start_listener(stack, for_operators, (settings.operators_host, settings.operators_port)),
    )


async def _start_listener(stack: AsyncExitStack, listener: Listener, address: tuple[str, int]) -> int:
    stack.push_async_callback(listener.stop)
    host, port = address
    try:
        return await listener.start(host, port)
    except OSError as error:
        raise SettingsError(f"can't listen on {host}:{port}: {error.strerror or error}") from error
