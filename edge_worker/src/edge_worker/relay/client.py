"""The calls of a worker to its relay: one method per route, with typed requests and answers.

How a call fails is described in `call_result`; which calls may be repeated is decided in `retry`.
"""

import gzip
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from pydantic import BaseModel

from edge_schemas.gate.centre import SigningKeys, WorkerFacts
from edge_schemas.gate.limits import DEFAULT_LIMITS, CallLimits
from edge_schemas.wire import routes
from edge_schemas.wire.job_calls import (
    MAX_CHUNK_BYTES,
    MAX_CHUNK_DECODED_BYTES,
    FinishRequest,
    LogPosition,
    ReleaseRequest,
    StartRequest,
)
from edge_schemas.wire.polls import Poll
from edge_schemas.wire.workers import Enrollment, EnrollRequest, SecretRequest
from edge_worker.relay.bundle_calls import BundleCalls
from edge_worker.relay.call_result import NoAnswer, Reply, parse
from edge_worker.relay.clock_skew import ClockSkew
from edge_worker.relay.link import Link
from edge_worker.relay.poll_answer import ReadAnswer, read_answer
from edge_worker.relay.proxy import Proxy
from edge_worker.relay.transport import AGAIN_S, CALL_S, Request, Sessions, Transport

PING_S: Final = 10.0
EXECUTION_S: Final = 75.0
"""Longer than the relay waits for Airflow, so that the relay's answer arrives before this limit is reached."""
EXECUTION_AGAIN_S: Final = 20.0
"""The same for calls that Airflow answers, which may be slow itself."""
POLL_MARGIN_S: Final = 15.0
_JSON: Final = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class ExecutionCall:
    """A call of a task to Airflow's Execution API.

    Attributes:
        raw_path: In the form in which it travels to the gate, without a leading slash.
        query: Raw, without the question mark.
        headers: Those of `FORWARDED_HEADERS` only.
        request_id: The same for every repetition.
    """

    method: str
    raw_path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    request_id: str


@dataclass(frozen=True)
class ExecutionAnswer:
    """What the Execution API answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class RelayClient:
    """The client of one relay. Use as an asynchronous context manager.

    Polls have connections of their own. Those of all other calls are replaced when the link is lost and when it is
    back: a call on a dead connection would hang for up to a minute after everything else works again.

    Args:
        relay_url: Without a trailing slash.
        secret: The worker's credential, or an enrolment token.
        tls: Which authorities are trusted.
        proxy: Used for every call; None connects directly.
        link: Records each answer and each call without one, and reports when the link is lost and back.
        limits: Of answers to calls of tasks.

    Attributes:
        proxy: As given.
        bundles: The calls for published bundles.
    """

    def __init__(
        self,
        relay_url: str,
        secret: str,
        *,
        tls: ssl.SSLContext,
        proxy: Proxy | None,
        link: Link | None = None,
        limits: CallLimits = DEFAULT_LIMITS,
    ) -> None:
        self.proxy = proxy
        self._link = link or Link()
        self._limits = limits
        self._sessions = Sessions(tls)
        self._transport = Transport(relay_url, secret, sessions=self._sessions, proxy=proxy, link=self._link)
        self.bundles = BundleCalls(self._transport)

    async def __aenter__(self) -> Self:
        self._sessions.open()
        self._link.on_state_change(self._sessions.renew)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._sessions.close()

    @property
    def skew(self) -> ClockSkew:
        """What the answers show about this machine's clock."""
        return self._transport.skew

    async def enroll(self, request: EnrollRequest) -> Enrollment:
        """Exchanges the enrolment token for an identity."""
        return parse(Enrollment, await self._post(routes.ENROLL, request))

    async def register_secret(self, request: SecretRequest) -> None:
        """Registers the hash of the next secret; the current one stays valid until the next one is used."""
        await self._post(routes.WORKER_SECRET, request)

    def use_secret(self, secret: str) -> None:
        """Shows this secret from now on."""
        self._transport.use_secret(secret)

    async def poll(self, poll: Poll) -> ReadAnswer | None:
        """Reports and waits for up to `poll_timeout_s`; None means that there is nothing to do."""
        limit_s = poll.poll_timeout_s + POLL_MARGIN_S
        request = Request("POST", routes.POLL, _content(poll), _JSON, limit_s=limit_s, is_poll=True)
        reply = await self._transport.send(request)
        return None if reply.status == 204 else read_answer(reply)

    async def ping(self) -> None:
        """Checks that the relay answers at all."""
        await self._transport.send(Request("GET", routes.HEALTHZ, limit_s=PING_S))

    async def probe(self, path: str, *, timeout_s: float) -> tuple[Reply, str]:
        """Gets a path without showing the credential, and accepts an answer from anybody.

        Returns:
            The answer, and the request id with which `check_reply` decides whether it is the relay's.
        """
        request = Request("GET", path, limit_s=timeout_s, with_credential=False, checked=False)
        return await self._transport.send(request), request.request_id

    async def facts(self, *, timeout_s: float = CALL_S) -> WorkerFacts:
        """What the credential allows. The call changes nothing and does not count as contact."""
        request = Request("GET", routes.WORKER, limit_s=timeout_s)
        return parse(WorkerFacts, await self._transport.send(request))

    async def signing_keys(self) -> SigningKeys:
        """The centre's key sets. The call changes nothing and does not count as contact."""
        return parse(
            SigningKeys, await self._transport.send(Request("GET", routes.WORKER_SIGNING_KEYS, limit_s=CALL_S))
        )

    async def start(self, job: str, request: StartRequest) -> None:
        """Confirms a grant."""
        await self._post(routes.JOB_START.format(job=job), request)

    async def finish(self, job: str, request: FinishRequest) -> None:
        """Reports that a job's processes are gone."""
        await self._post(routes.JOB_FINISH.format(job=job), request)

    async def release(self, job: str, request: ReleaseRequest) -> None:
        """Releases a granted job."""
        await self._post(routes.JOB_RELEASE.format(job=job), request)

    async def append_log(self, job: str, offset: int, chunk: bytes) -> LogPosition:
        """Uploads log bytes, compressed if that makes them smaller.

        What is too large for one call is cut off. The answer contains the offset up to which the log is durable.
        """
        headers = {"Content-Type": "application/octet-stream"}
        chunk = chunk[:MAX_CHUNK_DECODED_BYTES]
        packed = gzip.compress(chunk, compresslevel=3, mtime=0)
        if len(packed) < len(chunk) and len(packed) <= MAX_CHUNK_BYTES:
            chunk, headers["Content-Encoding"] = packed, "gzip"
        chunk = chunk[:MAX_CHUNK_BYTES]
        request = Request("PUT", routes.JOB_LOG.format(job=job), chunk, headers, f"offset={offset}")
        return parse(LogPosition, await self._transport.send_twice(request, again_s=AGAIN_S))

    async def execution(self, job: str, call: ExecutionCall) -> ExecutionAnswer:
        """Forwards a call to the Execution API, with path and query unchanged.

        Raises:
            Refused: The relay or the gate answered, or the answer is too large.
            NoAnswer: Something else answered, or nothing.
        """
        request = Request(
            call.method,
            routes.JOB_EXECUTION.format(job=job, path=call.raw_path),
            call.body,
            call.headers,
            call.query,
            limit_s=EXECUTION_S,
            request_id=call.request_id,
            checked=False,
            limits=self._limits,
        )
        reply = await self._transport.send_twice(request, again_s=EXECUTION_AGAIN_S)
        if reply.headers.get(routes.ORIGIN_HEADER) != routes.EXECUTION_ORIGIN:
            self._transport.check(reply, call.request_id)
            msg = f"an answer with status {reply.status} that is not marked as the Execution API's"
            raise NoAnswer(msg, status=reply.status)
        self._link.record_contact()
        return ExecutionAnswer(reply.status, reply.headers, reply.body)

    async def _post(self, path: str, body: BaseModel) -> Reply:
        return await self._transport.send_twice(Request("POST", path, _content(body), _JSON), again_s=AGAIN_S)


def _content(body: BaseModel) -> bytes:
    return body.model_dump_json().encode()
