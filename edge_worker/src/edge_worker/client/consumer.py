"""Consumers of payloads, asynchronous and plain."""

import asyncio
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.polls import MAX_SLOTS
from edge_service.text_files import NotText, read_text_file
from edge_worker.agent.enroll import enroll
from edge_worker.agent.shutdown import Shutdown, ShutdownStage
from edge_worker.client.consuming import Consuming
from edge_worker.client.handling import Handler
from edge_worker.client.options import ConsumerOptions, address_of, open_client, settings_of
from edge_worker.client.payload_job import PayloadJob
from edge_worker.relay.call_result import Refused
from edge_worker.relay.link import Link
from edge_worker.settings import Settings, SettingsError
from edge_worker.state.kept_identity import KeptIdentity
from edge_worker.state.state import Identity, StateDir


class AsyncConsumer:
    """Consumes the payloads of the queues that its enrolment names. Use as an asynchronous context manager.

    It is a worker of the relay: operators see, pause and drain it as any other. Its identity is in the state folder;
    one folder serves one running consumer.

    Args:
        relay_url: `https://host[:port]`; None for the relay at which it is enrolled, or `EDGE_WORKER_RELAY_URL`.
        state_dir: Folder for the identity, which contains a secret. Keep it between runs.
        options: How the relay is reached, and the enrolment token for the first run.

    Raises:
        SettingsError: An option is wrong, or the consumer is not enrolled and has no token. Raised on entry.
        Refused: The relay does not accept the token. Raised on entry.
    """

    def __init__(
        self, relay_url: str | None = None, *, state_dir: str | Path, **options: Unpack[ConsumerOptions]
    ) -> None:
        self._settings = settings_of(relay_url=relay_url, state_dir=state_dir, **options)
        self._link = Link()
        self._shutdown = Shutdown()
        self._resources = AsyncExitStack()
        self._identity: KeptIdentity | None = None

    @property
    def name(self) -> str:
        """The worker's name, which the centre has chosen."""
        return self._entered().current.enrollment.worker

    async def __aenter__(self) -> Self:
        """Enrols the consumer if it has no identity yet, for as long as the relay cannot be reached."""
        self._state = StateDir(self._settings.state_dir)
        self._state.prepare()
        async with AsyncExitStack() as stack:
            stack.enter_context(self._state.locked())
            identity = self._state.identity() or await _enrolled(self._settings, self._state)
            address = address_of(self._settings, identity.relay_url)
            client = open_client(self._settings, address, identity.secret, self._link)
            self._client = await stack.enter_async_context(client)
            self._identity = KeptIdentity(self._state, identity)
            self._resources = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._resources.aclose()

    async def run(self, handler: Handler, *, slots: int = 1) -> None:
        """Calls the handler for each payload, until `drain` is called or an operator drains the consumer. Call it once.

        What the handler returns is the job's result, up to 256 KiB. After `Retry` the job waits again, and after
        `Reject` it has failed. After any other exception it waits again for a time that grows with each attempt. A job
        whose attempts are used up is parked for an operator.

        The handler is cancelled when its job is cancelled, when the consumer shuts down, and when the consumer has been
        out of contact for nearly as long as the queue tolerates; `PayloadJob.stop_reason` says why. In the last two
        cases the job is released and runs again elsewhere. If this task is cancelled, it releases its jobs first, for
        up to ten seconds.

        Args:
            handler: Must be able to run again for the same job: a payload is delivered at least once.
            slots: How many handlers run at once; an operator may set another number.

        Raises:
            Refused: The consumer's credential was revoked.
        """
        await self._run(handler, slots, grace_s=self._settings.grace_s)

    def drain(self) -> None:
        """Accepts no more payloads; `run` returns when those that run have ended. To be called in the event loop."""
        self._shutdown.reach(ShutdownStage.DRAIN, "the program drains its consumer")

    async def _run(self, handler: Handler, slots: int, *, grace_s: float) -> None:
        identity = self._entered()
        consuming = Consuming(
            self._client, self._link, self._settings, self._state, identity, handler, slots, grace_s, self._shutdown
        )
        if not await consuming.run():
            raise Refused(EdgeError(ErrorCode.CREDENTIAL_REVOKED).problem())

    def _entered(self) -> KeptIdentity:
        if self._identity is None:
            msg = "use the consumer as a context manager: async with AsyncConsumer(...) as consumer"
            raise RuntimeError(msg)
        return self._identity


class Consumer:
    """Consumes payloads with a plain function, in threads. See `AsyncConsumer` for arguments and exceptions."""

    def __init__(
        self, relay_url: str | None = None, *, state_dir: str | Path, **options: Unpack[ConsumerOptions]
    ) -> None:
        self._new: Callable[[], AsyncConsumer] = partial(AsyncConsumer, relay_url, state_dir=state_dir, **options)
        self._lock = threading.Lock()
        self._drain: Callable[[], None] | None = None
        self._is_drained = False

    def run(self, handler: Callable[[PayloadJob], bytes | str | None], *, slots: int = 1) -> None:
        """Calls the handler for each payload, in a thread of its own; see `AsyncConsumer.run`. Returns when drained.

        A function can't be cancelled. It should call `PayloadJob.check` between its steps, and this method returns only
        when the function has ended. In the main thread, the first SIGTERM or SIGINT drains, the second one stops all
        handlers, and after the third one what the handlers do is no longer reported.
        """
        asyncio.run(self._run(handler, slots))

    def drain(self) -> None:
        """Accepts no more payloads; `run` returns when those that run have ended. May be called in any thread."""
        with self._lock:
            self._is_drained = True
            if self._drain is not None:
                self._drain()

    async def _run(self, handler: Callable[[PayloadJob], bytes | str | None], slots: int) -> None:
        loop = asyncio.get_running_loop()
        is_main = threading.current_thread() is threading.main_thread()
        with ThreadPoolExecutor(MAX_SLOTS, thread_name_prefix="payload") as threads:
            async with self._new() as consumer:

                def drain() -> None:
                    loop.call_soon_threadsafe(consumer.drain)

                with self._lock:
                    self._drain = drain
                    if self._is_drained:
                        consumer.drain()
                try:
                    with ExitStack() as signals:
                        if is_main:
                            signals.enter_context(consumer._shutdown.on_signals())  # noqa: SLF001 - its other half
                        await consumer._run(_in_thread(handler, threads), slots, grace_s=math.inf)  # noqa: SLF001
                finally:
                    with self._lock:
                        self._drain = None


def _in_thread(function: Callable[[PayloadJob], bytes | str | None], threads: ThreadPoolExecutor) -> Handler:
    async def call(job: PayloadJob) -> bytes | str | None:
        running = asyncio.get_running_loop().run_in_executor(threads, function, job)
        while not running.done():
            try:
                await asyncio.shield(running)
            except asyncio.CancelledError:
                # The thread goes on: until it has ended, this consumer has the job.
                continue
            except Exception:  # noqa: BLE001 - raised below, like every result of the function
                break
        return running.result()

    return call


async def _enrolled(settings: Settings, state: StateDir) -> Identity:
    token = _token(settings)
    return await enroll(address_of(settings), token, settings, state, pause=asyncio.sleep)


def _token(settings: Settings) -> str:
    if settings.enroll_token is not None:
        return settings.enroll_token.get_secret_value().strip()
    if settings.enroll_token_file is None:
        msg = f"no identity in {settings.state_dir}: pass enroll_token_file or enroll_token"
        raise SettingsError(msg)
    try:
        return read_text_file(settings.enroll_token_file).strip()
    except (OSError, NotText) as error:
        msg = f"enroll_token_file cannot be read: {error}"
        raise SettingsError(msg) from None
