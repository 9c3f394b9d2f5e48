"""Producers: submit jobs, and wait for their ends."""

import asyncio
import secrets
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from time import monotonic
from types import TracebackType
from typing import Literal, Self, TypedDict, TypeVar, Unpack
from urllib.parse import quote

from pydantic import BaseModel
from typing_extensions import override

from edge_schemas.life.model import JobState
from edge_schemas.producers.submissions import MAX_WAIT_S, Cancellation, JobStatus, Submission, Submitted
from edge_schemas.why.for_producers import WaitAnswer
from edge_schemas.wire import routes
from edge_schemas.wire.content import BYTES, TEXT, SentContent
from edge_worker.client.options import Connection, settings_of
from edge_worker.client.options import address_of as _address
from edge_worker.environment import proxy_environment
from edge_worker.relay.call_result import CallError, Reply, parse
from edge_worker.relay.link import Link
from edge_worker.relay.proxy import resolve_proxy
from edge_worker.relay.retry import Fate, fate_of, until_final
from edge_worker.relay.tls import tls_context
from edge_worker.relay.transport import AGAIN_S, Request, Sessions, Transport

LONGEST_WAIT_S = MAX_WAIT_S - 5.0
"""Of one call; a proxy may cut longer ones."""
_LOOK_EVERY_S = 15.0
"""A wait is answered at the end of its job; that a job was parked is seen between two waits."""
_MARGIN_S = 15.0
_JSON = {"Content-Type": "application/json"}

T = TypeVar("T")


class Terms(TypedDict, total=False):
    """What a producer may ask for; see `Submission`. Without a `key` each call submits another job."""

    key: str
    name: str
    priority: int
    delay_s: float
    ttl_s: float
    on_lost: Literal["requeue", "fail"]
    max_attempts: int
    group: str
    labels: Mapping[str, str]
    offline_tolerance_s: float


class Parked(Exception):
    """The job has used up its attempts, or no worker would start it: only an operator can let it run again.

    Attributes:
        job: Its id.
        reason: Why, from the last worker that had it.
    """

    def __init__(self, job: str, reason: str) -> None:
        super().__init__(job, reason)
        self.job = job
        self.reason = reason

    @override
    def __str__(self) -> str:
        return f"job {self.job} is parked: {self.reason}"


class AsyncProducer:
    """Submits jobs to the queues of its access token. Use as an asynchronous context manager.

    Each call is repeated while the relay cannot be reached, for up to `patience_s`. A submission has an idempotency
    key, so a repetition submits nothing twice.

    Args:
        relay_url: `https://host[:port]`; None for `EDGE_WORKER_RELAY_URL`.
        token: Access token of the role `producer`.
        patience_s: Seconds of repetitions before `NoAnswer` is raised.
        connection: How the relay is reached.

    Raises:
        SettingsError: An option is wrong.
    """

    def __init__(
        self,
        relay_url: str | None = None,
        *,
        token: str,
        patience_s: float = 60.0,
        **connection: Unpack[Connection],
    ) -> None:
        # A producer keeps nothing on disk.
        settings = settings_of(relay_url=relay_url, state_dir=".", **connection)
        address = _address(settings)
        proxy = resolve_proxy(address, settings, proxy_environment())
        self._link = Link()
        self._sessions = Sessions(tls_context(settings))
        self._transport = Transport(address, token, sessions=self._sessions, proxy=proxy, link=self._link)
        self._patience_s = patience_s
        self._is_open = False

    async def __aenter__(self) -> Self:
        self._sessions.open()
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        await self._sessions.close()

    async def submit(
        self,
        queue: str,
        payload: bytes | str | None = None,
        *,
        command: Sequence[str] | None = None,
        content_type: str | None = None,
        **terms: Unpack[Terms],
    ) -> str:
        """Submits a payload or a command, and returns the id of the job. From then on the job is stored durably.

        Args:
            queue: Its name.
            payload: Up to 256 KiB.
            command: Instead of a payload: a program and its arguments, for workers that accept commands. No shell.
            content_type: Of the payload.
            terms: See `Terms`.

        Raises:
            TypeError: Not exactly one of payload and command was passed, or the command is one text.
            ValueError: A value is out of range.
            Refused: The relay does not accept it: `code` says why.
            NoAnswer: The relay was not reached. The job may have been submitted: repeat with the same `key`.
        """
        terms.setdefault("key", secrets.token_hex(16))
        submission = Submission.model_validate({**_work(payload, command, content_type), **terms})
        reply = await self._post(routes.QUEUE_JOBS.format(queue=quote(queue, safe="")), submission)
        return parse(Submitted, reply).job

    async def status(self, job: str, *, wait_s: float = 0.0) -> JobStatus:
        """How a job stands: at its end, or after `wait_s` seconds, of which one call waits at most 45.

        `outcome` is set once the job has ended, and holds the result. `parked` is set while it waits for an operator.
        """
        wait_s = min(wait_s, LONGEST_WAIT_S)
        path, query = routes.JOB.format(job=quote(job, safe="")), f"wait={wait_s:g}"
        request = Request("GET", path, query=query, limit_s=wait_s + _MARGIN_S)
        return parse(JobStatus, await self._patiently(lambda: self._transport.send(request)))

    async def wait(self, job: str, *, timeout_s: float | None = None) -> JobStatus:
        """Waits for the end of a job; `outcome` of the status says how it ended.

        Raises:
            Parked: It waits for an operator, and does not end by itself.
            TimeoutError: It has not ended in this time. The job goes on; the wait may be repeated.
            NoAnswer: The relay could not be reached. The job goes on.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    status = await self.status(job, wait_s=_LOOK_EVERY_S)
                    if status.state is JobState.ENDED:
                        return status
                    if status.parked is not None:
                        raise Parked(job, status.parked)
        except TimeoutError:
            msg = f"job {job} has not ended within {timeout_s} s"
            raise TimeoutError(msg) from None

    async def why(self, job: str) -> WaitAnswer:
        """Why a job waits: its `causes` are sentences, the one that holds the job back most comes first."""
        request = Request("GET", routes.JOB_WHY.format(job=quote(job, safe="")))
        return parse(WaitAnswer, await self._patiently(lambda: self._transport.send(request)))

    async def cancel(self, job: str, *, reason: str = "cancelled by its producer") -> JobStatus:
        """Ends a waiting job, and asks the holder of a running one to stop."""
        path = routes.JOB_CANCEL.format(job=quote(job, safe=""))
        return parse(JobStatus, await self._post(path, Cancellation(reason=reason)))

    async def _post(self, path: str, body: BaseModel) -> Reply:
        request = Request("POST", path, body.model_dump_json(exclude_defaults=True).encode(), _JSON)
        return await self._patiently(lambda: self._transport.send_twice(request, again_s=AGAIN_S))

    async def _patiently(self, call: Callable[[], Awaitable[Reply]]) -> Reply:
        if not self._is_open:
            msg = "use the producer as a context manager: async with AsyncProducer(...) as producer"
            raise RuntimeError(msg)
        deadline = monotonic() + self._patience_s

        def failed(error: CallError, pause_s: float) -> None:
            if fate_of(error) is Fate.RETRY_SLOWLY or monotonic() + pause_s > deadline:
                raise error

        return await until_final(call, pause=asyncio.sleep, on_retry=failed)


class Producer:
    """The same for plain programs; also works where an event loop runs, such as in a notebook. See `AsyncProducer`.

    May be used by several threads. Used without `with`, it connects at the first call; call `close` at the end.
    """

    def __init__(
        self,
        relay_url: str | None = None,
        *,
        token: str,
        patience_s: float = 60.0,
        **connection: Unpack[Connection],
    ) -> None:
        self._producer = AsyncProducer(relay_url, token=token, patience_s=patience_s, **connection)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    def __enter__(self) -> Self:
        self._opened()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections. A call that still waits in another thread is cancelled; a repeat changes nothing."""
        with self._lock:
            loop, self._loop, self._is_closed = self._loop, None, True
        if loop is not None:
            asyncio.run_coroutine_threadsafe(_close(self._producer), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            loop.close()

    def _opened(self) -> asyncio.AbstractEventLoop:
        """The loop of this producer, in a thread of its own.

        Raises:
            RuntimeError: The producer is closed.
        """
        with self._lock:
            if self._is_closed:
                msg = "the producer is closed"
                raise RuntimeError(msg)
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="edge-producer", daemon=True)
                self._thread.start()
                asyncio.run_coroutine_threadsafe(self._producer.__aenter__(), self._loop).result()
            return self._loop

    def submit(
        self,
        queue: str,
        payload: bytes | str | None = None,
        *,
        command: Sequence[str] | None = None,
        content_type: str | None = None,
        **terms: Unpack[Terms],
    ) -> str:
        """See `AsyncProducer.submit`."""
        return self._wait(self._producer.submit(queue, payload, command=command, content_type=content_type, **terms))

    def status(self, job: str, *, wait_s: float = 0.0) -> JobStatus:
        """See `AsyncProducer.status`."""
        return self._wait(self._producer.status(job, wait_s=wait_s))

    def wait(self, job: str, *, timeout_s: float | None = None) -> JobStatus:
        """See `AsyncProducer.wait`."""
        return self._wait(self._producer.wait(job, timeout_s=timeout_s))

    def cancel(self, job: str, *, reason: str = "cancelled by its producer") -> JobStatus:
        """See `AsyncProducer.cancel`."""
        return self._wait(self._producer.cancel(job, reason=reason))

    def why(self, job: str) -> WaitAnswer:
        """See `AsyncProducer.why`."""
        return self._wait(self._producer.why(job))

    def _wait(self, call: Coroutine[object, object, T]) -> T:
        try:
            future = asyncio.run_coroutine_threadsafe(call, self._opened())
        except RuntimeError:
            call.close()
            raise
        try:
            return future.result()
        except KeyboardInterrupt:
            # Otherwise the call goes on in its thread, and a wait does so until its job ends.
            future.cancel()
            raise


async def _close(producer: AsyncProducer) -> None:
    """Closes the connections, and cancels the calls of all threads."""
    calls = asyncio.all_tasks() - {asyncio.current_task()}
    # Connections first: those of a cancelled call would outlive this loop.
    await producer.__aexit__(None, None, None)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


def _work(payload: bytes | str | None, command: Sequence[str] | None, content_type: str | None) -> dict[str, object]:
    if (payload is None) == (command is None):
        msg = "pass a payload or a command"
        raise TypeError(msg)
    if command is None:
        return {"payload": _content(payload, content_type)}
    if isinstance(command, str):
        msg = "a command is a list of its program and arguments; no shell splits a text"
        raise TypeError(msg)
    return {"command": {"argv": command}}


def _content(payload: bytes | str | None, content_type: str | None) -> dict[str, object]:
    if isinstance(payload, str):
        return SentContent.of_text(payload, content_type or TEXT).model_dump()
    return SentContent.of(payload or b"", content_type or BYTES).model_dump()
