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

from edge_schemas.life.model import JobState
from edge_schemas.producers.submissions import MAX_WAIT_S, Cancellation, JobStatus, Submission, Submitted
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

    async def __aenter__(self) -> Self:
        self._sessions.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
            command: A program and its arguments, for workers that accept commands.
            content_type: Of the payload.
            terms: See `Terms`.

        Raises:
            ValueError: A value is out of range.
            Refused: The relay does not accept it: `code` says why.
            NoAnswer: The relay was not reached. The job may have been submitted: repeat with the same `key`.
        """
        terms.setdefault("key", secrets.token_hex(16))
        work = {"payload": _content(payload, content_type)} if command is None else {"command": {"argv": command}}
        submission = Submission.model_validate({**work, **terms})
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
        """Waits for the end of a job.

        Raises:
            TimeoutError: It has not ended in this time. A parked job does not end by itself.
        """
        async with asyncio.timeout(timeout_s):
            while True:
                status = await self.status(job, wait_s=LONGEST_WAIT_S)
                if status.state is JobState.ENDED:
                    return status

    async def cancel(self, job: str, *, reason: str = "cancelled by its producer") -> JobStatus:
        """Ends a waiting job, and asks the holder of a running one to stop."""
        path = routes.JOB_CANCEL.format(job=quote(job, safe=""))
        return parse(JobStatus, await self._post(path, Cancellation(reason=reason)))

    async def _post(self, path: str, body: BaseModel) -> Reply:
        request = Request("POST", path, body.model_dump_json(exclude_defaults=True).encode(), _JSON)
        return await self._patiently(lambda: self._transport.send_twice(request, again_s=AGAIN_S))

    async def _patiently(self, call: Callable[[], Awaitable[Reply]]) -> Reply:
        deadline = monotonic() + self._patience_s

        def failed(error: CallError, pause_s: float) -> None:
            if fate_of(error) is Fate.RETRY_SLOWLY or monotonic() + pause_s > deadline:
                raise error

        return await until_final(call, pause=asyncio.sleep, on_retry=failed)


class Producer:
    """The same for programs without an event loop; may be used by several threads. See `AsyncProducer`."""

    def __init__(
        self,
        relay_url: str | None = None,
        *,
        token: str,
        patience_s: float = 60.0,
        **connection: Unpack[Connection],
    ) -> None:
        self._producer = AsyncProducer(relay_url, token=token, patience_s=patience_s, **connection)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="edge-producer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._wait(self._producer.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wait(self._producer.__aexit__(kind, error, trace))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

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

    def _wait(self, call: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()


def _content(payload: bytes | str | None, content_type: str | None) -> dict[str, object]:
    if isinstance(payload, str):
        return SentContent.of_text(payload, content_type or TEXT).model_dump()
    return SentContent.of(payload or b"", content_type or BYTES).model_dump()
