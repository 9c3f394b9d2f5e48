"""A relay without a broker, on a real socket, that follows the wire strictly.

Job records and the workers' entries are the real ones, changed by the real rules. What a test can break: the server
may be stopped and started on the same port, answer with a proxy's page, cut connections, or lose an answer after it has
acted.
"""

import asyncio
import json
import secrets
import ssl
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from edge_schemas.gate.centre import CentreFacts, WorkerFacts
from edge_schemas.gate.execution_paths import split_path
from edge_schemas.life.agents import arrive, current_arrival, gets_jobs, settle, superseded
from edge_schemas.life.records import (
    Event,
    Finish,
    GiveUp,
    JobRecord,
    JobState,
    Release,
    Start,
    Withdraw,
    check_holder,
    new_record,
    transition,
)
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.jobs import Job
from edge_schemas.wire.logs import MAX_CHUNK_BYTES, MAX_CHUNK_DECODED_BYTES, LogPosition
from edge_schemas.wire.polls import (
    AgentSeen,
    FinishRequest,
    Grant,
    Poll,
    PollAnswer,
    ReleaseRequest,
    StartRequest,
    StopDirective,
    WorkerEntry,
)
from edge_schemas.wire.workers import Enrollment, EnrollRequest, WorkerSettings, hash_secret

Model = TypeVar("Model", bound=BaseModel)
ENROLL_TOKEN = "ere_test-token"


@dataclass(frozen=True)
class SeenCall:
    """A call of a task that reached the relay."""

    job: str
    method: str
    raw_path: str
    query: str
    headers: dict[str, str]
    body: bytes
    request_id: str


ExecutionHandler = Callable[[SeenCall], Awaitable[web.Response]]


def execution_answer(status: int, body: Any = None, **headers: str) -> web.Response:
    """As the Execution API gives it."""
    content = None if body is None else json.dumps(body).encode()
    marked = {routes.ORIGIN_HEADER: routes.EXECUTION_ORIGIN, **headers}
    if content is not None:
        marked["Content-Type"] = "application/json"
    return web.Response(status=status, body=content, headers=marked)


async def _agree(call: SeenCall) -> web.Response:
    return execution_answer(204) if call.method in {"PATCH", "PUT"} else execution_answer(200, {"value": "v"})


@dataclass
class FakeRelay:
    """State and faults of one fake relay.

    Attributes:
        tls: Serves HTTPS with it.
        execution: Answers the calls of tasks.
        fault: May answer any request in the relay's place.
        lose_answer: Paths (their last segment) whose next answer is lost after the relay has acted.
        hold_s: Never holds a poll longer than this.
        oversells: Grants more than a poll can take.
        centre: What a keeper told it of the centre.
        airflow_wanted: Told in place of grants, to a worker that would take jobs.
    """

    tls: ssl.SSLContext | None = None
    execution: ExecutionHandler = _agree
    fault: Callable[[web.Request], web.Response | None] = lambda _: None
    lose_answer: Counter[str] = field(default_factory=Counter)
    hold_s: float = 50.0
    oversells: bool = False
    centre: CentreFacts | None = None
    airflow_wanted: str | None = None
    queues: tuple[str, ...] = ("default",)
    port: int = 0
    workers: dict[str, str] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    records: dict[str, JobRecord] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    granted: dict[str, str] = field(default_factory=dict)
    logs: dict[str, bytearray] = field(default_factory=dict)
    calls: list[SeenCall] = field(default_factory=list)
    polls: list[Poll] = field(default_factory=list)
    requests: Counter[str] = field(default_factory=Counter)
    released: list[ReleaseRequest] = field(default_factory=list)
    finishes: dict[str, list[FinishRequest]] = field(default_factory=dict)
    wire_sizes: list[int] = field(default_factory=list)
    parked: int = 0
    entries: dict[str, WorkerEntry] = field(default_factory=dict)
    enrolled_airflow: str | None = None
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listens; after a stop on the same port again."""
        app = web.Application(client_max_size=16 * 1024 * 1024, middlewares=[self._middleware])
        app.router.add_get(routes.HEALTHZ, self._health)
        app.router.add_post(routes.ENROLL, self._enroll)
        app.router.add_get(routes.WORKER, self._facts)
        app.router.add_post(routes.POLL, self._poll)
        app.router.add_post(routes.JOB_START, self._start_job)
        app.router.add_post(routes.JOB_FINISH, self._finish)
        app.router.add_post(routes.JOB_RELEASE, self._release)
        app.router.add_put(routes.JOB_LOG, self._log)
        app.router.add_route("*", "/v1/jobs/{job}/execution/{path:.*}", self._execution)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.tls, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Closes every connection; new ones are refused."""
        if self._runner is not None:
            # asyncio (3.11) leaks a connection that is being accepted while its server closes: no more of them, then a
            # few turns of the loop for those under way.
            for site in self._runner.sites:
                for listening in getattr(site, "_server").sockets:  # noqa: B009 - aiohttp does not give it away
                    asyncio.get_running_loop().remove_reader(listening)
            for _ in range(5):
                await asyncio.sleep(0)
            await self._runner.cleanup()
            self._runner = None

    def cut(self) -> None:
        """Closes every connection without an answer; new ones are taken."""
        assert self._runner is not None
        assert self._runner.server is not None
        for connection in self._runner.server.connections:
            connection.force_close()

    async def publish(self, job: Job) -> None:
        """A job to be granted."""
        self.jobs[job.id] = job
        self.records[job.id] = new_record(job)
        await self._notify()

    def hand_out(self, job_id: str, worker: str) -> None:
        """A worker has started the job before the test began."""
        self.granted[job_id] = "used"
        self._swap(job_id, Start(worker=worker, incarnation=1, at=_now()))

    def hand_over(self, job_id: str, worker: str) -> None:
        """The centre has given a started job up, and another worker has started it."""
        self._swap(job_id, GiveUp(reason="no contact", at=_now()))
        self._swap(job_id, Start(worker=worker, incarnation=1, at=_now()))

    async def withdraw(self, job_id: str, reason: str = "marked as failed") -> None:
        """Airflow no longer wants the job."""
        self.records[job_id] = transition(self.records[job_id], Withdraw(reason=reason, at=_now()))
        await self._notify()

    async def settle(self, worker: str, *, keep_newer: bool) -> None:
        """An operator decides which of two agents is the worker."""
        self.entries[worker] = settle(self.entries[worker], keep_newer=keep_newer, at=_now())
        await self._notify()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until a condition on this relay's state holds; it is looked at after every request."""
        async with self._changed:
            await self._changed.wait_for(condition)

    @property
    def holds_a_poll(self) -> bool:
        """A poll is parked that is not a mere probe."""
        return self.parked == 1 and self.polls[-1].hold_s > 0

    def state(self, job_id: str) -> JobState:
        """Of a job's record."""
        return self.records[job_id].state

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    @web.middleware
    async def _middleware(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.requests[request.path] += 1
        request_id = request.headers.get(routes.REQUEST_ID_HEADER, "")
        if (broken := self.fault(request)) is not None:
            await self._notify()
            return broken
        try:
            answer = await handler(request)
        except EdgeError as error:
            answer = _problem(error, request_id)
        except ValidationError as error:
            answer = _problem(EdgeError(ErrorCode.INVALID_REQUEST, str(error)), request_id)
        answer.headers[routes.REQUEST_ID_HEADER] = request_id
        await self._notify()
        last = request.path.rpartition("/")[2]
        if self.lose_answer[last] > 0:
            self.lose_answer[last] -= 1
            request.protocol.force_close()
        return answer

    def _worker(self, request: web.Request) -> str:
        kind, _, secret = request.headers.get("Authorization", "").partition(" ")
        name = self.workers.get(hash_secret(secret)) if kind == "Bearer" else None
        if name is None:
            raise EdgeError(ErrorCode.UNAUTHENTICATED)
        if name in self.revoked:
            raise EdgeError(ErrorCode.CREDENTIAL_REVOKED)
        return name

    async def _enroll(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {ENROLL_TOKEN}":
            raise EdgeError(ErrorCode.ENROLLMENT_REFUSED)
        body = await _body(request, EnrollRequest)
        name = self.workers.setdefault(body.secret_hash, f"worker-{len(self.workers) + 1}")
        self.enrolled_airflow = body.airflow
        settings = WorkerSettings(version=1, queues=self.queues)
        airflow = None if self.centre is None else self.centre.airflow_version
        return _json(Enrollment(worker=name, site="plant", settings=settings, airflow=airflow))

    async def _facts(self, request: web.Request) -> web.Response:
        return _json(
            WorkerFacts(
                worker=self._worker(request),
                site="plant",
                queues=self.queues,
                protocols=(1,),
                relay_version="0",
                now=_now(),
                centre=self.centre,
            )
        )

    async def _poll(self, request: web.Request) -> web.Response:
        worker = self._worker(request)
        poll = await _body(request, Poll)
        entry = _entry(worker, poll, request.remote or "")
        self.entries[worker] = arrive(self.entries.get(worker), entry, superseded_by=poll.superseded_by)
        self.polls.append(poll)
        answer: PollAnswer | None = None

        def settled() -> bool:
            nonlocal answer
            current = current_arrival(self.entries[worker], entry.agent)
            if current.arrival != entry.agent.arrival:
                raise superseded(by=current)
            answer = self._answer(worker, poll, entry.agent)
            return answer is not None

        self.parked += 1
        try:
            await self._notify()
            async with asyncio.timeout(min(poll.hold_s, self.hold_s)), self._changed:
                await self._changed.wait_for(settled)
        except TimeoutError:
            return web.Response(status=204)
        finally:
            self.parked -= 1
        assert answer is not None
        return _json(answer)

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    def _answer(self, worker: str, poll: Poll, agent: AgentSeen) -> PollAnswer | None:
        entry = self.entries[worker]
        if not gets_jobs(entry, agent):
            return None if poll.in_conflict else PollAnswer(conflict=entry.conflict)
        if poll.in_conflict:
            return PollAnswer(conflict_resolved=True)
        stop = tuple(wish for job in poll.jobs if (wish := self._stop(worker, job.id)) is not None)
        waiting = [job for job, record in self.records.items() if record.state is JobState.WAITING]
        fresh = [job for job in waiting if job not in self.granted]
        fresh = fresh if self.oversells else fresh[: poll.free]
        if self.airflow_wanted is not None and fresh:
            return PollAnswer(airflow_wanted=self.airflow_wanted, stop=stop)
        grants = tuple(self._grant(job) for job in fresh)
        return PollAnswer(grants=grants, stop=stop) if grants or stop else None

    def _grant(self, job: str) -> Grant:
        self.granted[job] = secrets.token_hex(8)
        return Grant(job=self.jobs[job], receipt=self.granted[job], expires_at=_now() + timedelta(seconds=30))

    def _stop(self, worker: str, job: str) -> StopDirective | None:
        record = self.records.get(job)
        if record is None or record.state is JobState.ENDED:
            return StopDirective(job=job, reason="the job has ended", drop=True)
        if record.holder is not None and record.holder.worker != worker:
            return StopDirective(job=job, reason="another worker holds the job", drop=True)
        return StopDirective(job=job, reason=record.stop.reason) if record.stop else None

    def _swap(self, job: str, event: Event) -> None:
        self.records[job] = transition(self.records.get(job), event)

    async def _start_job(self, request: web.Request) -> web.Response:
        worker, job = self._worker(request), request.match_info["job"]
        body = await _body(request, StartRequest)
        if body.receipt != self.granted.get(job):
            raise EdgeError(ErrorCode.RECEIPT_EXPIRED)
        self._swap(job, Start(worker=worker, incarnation=body.incarnation, at=_now(), grant=body.receipt))
        return web.Response(status=204)

    async def _finish(self, request: web.Request) -> web.Response:
        worker, job = self._worker(request), request.match_info["job"]
        body = await _body(request, FinishRequest)
        event = Finish(worker, body.exit_code, body.reason, _now(), body.give_back, grant=body.receipt)
        self._swap(job, event)
        self.finishes.setdefault(job, []).append(body)
        return web.Response(status=204)

    async def _release(self, request: web.Request) -> web.Response:
        worker, job = self._worker(request), request.match_info["job"]
        body = await _body(request, ReleaseRequest)
        self._swap(job, Release(worker=worker, reason=body.reason, counted=body.counted, at=_now()))
        self.released.append(body)
        return web.Response(status=204)

    async def _log(self, request: web.Request) -> web.Response:
        self._worker(request)
        job, offset = request.match_info["job"], int(request.query["offset"])
        self.wire_sizes.append(int(request.headers["Content-Length"]))
        chunk = await request.read()
        if self.wire_sizes[-1] > MAX_CHUNK_BYTES or len(chunk) > MAX_CHUNK_DECODED_BYTES:
            raise EdgeError(ErrorCode.PAYLOAD_TOO_LARGE)
        log = self.logs.setdefault(job, bytearray())
        if offset > len(log):
            raise EdgeError(ErrorCode.OFFSET_MISMATCH, expected_offset=len(log))
        log += chunk[len(log) - offset :]
        return _json(LogPosition(offset=len(log)))

    async def _execution(self, request: web.Request) -> web.Response:
        worker, job = self._worker(request), request.match_info["job"]
        check_holder(self.records.get(job), worker)
        target, _, query = request.raw_path.partition("?")
        raw_path = target.partition("/execution/")[2]
        split_path(raw_path)
        request_id = request.headers[routes.REQUEST_ID_HEADER]
        call = SeenCall(job, request.method, raw_path, query, dict(request.headers), await request.read(), request_id)
        self.calls.append(call)
        await self._notify()
        return await self.execution(call)


def _entry(worker: str, poll: Poll, address: str) -> WorkerEntry:
    agent = AgentSeen(
        instance=poll.instance,
        incarnation=poll.incarnation,
        seq=poll.seq,
        arrival=uuid.uuid4().hex,
        host=poll.host,
        address=address,
        last_poll_at=_now(),
    )
    return WorkerEntry(
        worker=worker,
        site="plant",
        agent=agent,
        relay="fake",
        hold_s=poll.hold_s,
        slots=poll.slots,
        free=poll.free,
        draining=poll.draining,
        jobs=poll.jobs,
        versions=poll.versions,
        health=poll.health,
    )


def _problem(error: EdgeError, request_id: str) -> web.Response:
    problem = error.problem(request_id or None)
    return web.Response(
        status=problem.status, body=problem.model_dump_json().encode(), headers={"Content-Type": routes.PROBLEM_TYPE}
    )


async def _body(request: web.Request, model: type[Model]) -> Model:
    if request.content_type != "application/json":
        raise EdgeError(ErrorCode.UNSUPPORTED_MEDIA_TYPE)
    return model.model_validate_json(await request.read(), strict=False)


def _json(body: BaseModel) -> web.Response:
    content = body.model_dump_json().encode()
    return web.Response(body=content, headers={"Content-Type": "application/json"})


def _now() -> datetime:
    return datetime.now(UTC)


def problem_answer(code: ErrorCode, **extra: Any) -> web.Response:
    """What the relay refuses with; for `fault`."""
    return _problem(EdgeError(code, **extra), "")


def html_page(status: int = 502) -> web.Response:
    """What a proxy or a load balancer says in the relay's place."""
    return web.Response(status=status, text="<html><body>Bad gateway</body></html>", content_type="text/html")
