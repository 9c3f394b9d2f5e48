"""A relay without a broker, on a real socket, that follows the wire strictly.

Requests are read, job records and workers' entries are changed, and directives are chosen by the relay's own functions.
`tests/contract/test_relay.py` runs the same cases against this relay and a real one. A test can stop the server and
start it again on the same port, let it answer with a proxy's page, cut connections, and lose an answer after the relay
has acted.
"""

import asyncio
import json
import re
import secrets
import ssl
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from edge_relay.bundles.access import check_bundle
from edge_relay.dispatch.arrival import agent_seen, check_report, poll_timeout_s
from edge_relay.dispatch.directives import directives
from edge_relay.http.bearer import bearer
from edge_relay.http.bodies import job_of, json_response, read_model
from edge_relay.http.handlers.bundles import MANIFEST_PATH, PIECES_PATH, version_of
from edge_relay.http.handlers.passthrough import METHODS
from edge_relay.http.middlewares import problem_response
from edge_relay.http.raw_bodies import decode, read_bounded
from edge_relay.stores.holders import holder_entry
from edge_schemas.gate.centre import CentreFacts, SigningKeys, WorkerFacts
from edge_schemas.gate.execution_paths import split_path
from edge_schemas.gate.limits import DEFAULT_LIMITS
from edge_schemas.life.agents import (
    arrive,
    check_taken_over,
    current_arrival,
    gets_jobs,
    is_holding_agent,
    resolve_conflict,
    superseded,
)
from edge_schemas.life.events import Event, Finish, GiveUp, Release, Start, Withdraw
from edge_schemas.life.holder_calls import check_holder
from edge_schemas.life.model import JobRecord, JobState, new_record
from edge_schemas.life.transition import transition
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.job_calls import (
    MAX_CHUNK_BYTES,
    MAX_CHUNK_DECODED_BYTES,
    FinishRequest,
    LogPosition,
    ReleaseRequest,
    StartRequest,
)
from edge_schemas.wire.jobs import Job
from edge_schemas.wire.polls import GRANT_WAIT_S, SUPPORTED_PROTOCOLS, Grant, Poll, PollAnswer
from edge_schemas.wire.worker_entry import AgentSeen, WorkerEntry
from edge_schemas.wire.workers import (
    Availability,
    Enrollment,
    EnrollRequest,
    SecretRequest,
    WorkerSettings,
    hash_secret,
)
from support.relay.bundles import FakeBundles, manifest_request, pieces_request

ENROLL_TOKEN = "ere_test-token"
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")


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
    """An answer of the Execution API, as the relay passes it on."""
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
        tls: Set, the relay serves HTTPS.
        execution: Answers the calls of tasks.
        fault: May answer any request in the relay's place.
        lose_answer: Paths (their last segment) whose next answer is lost after the relay has acted.
        hold_s: The longest time that a poll waits.
        oversells: Grants more jobs than a poll has room for.
        centre: The facts that a keeper has reported.
        airflow_wanted: Sent in place of grants, to a worker that would take jobs.
        settings: What operators have set; change it by `order`.
        workers: The name of each worker by the hash of its secret.
        replaced: Hashes of secrets that were rotated.
        next_secrets: What each worker has registered and not yet used.
        rotated: The last rotation that each worker has completed.
        bundles: The published ones, and what happens to answers with them.
        granted: The receipt of each job that was granted. Remove a job to have it granted again.
    """

    tls: ssl.SSLContext | None = None
    execution: ExecutionHandler = _agree
    fault: Callable[[web.Request], web.Response | None] = lambda _: None
    lose_answer: Counter[str] = field(default_factory=Counter)
    poll_timeout_s: float = 50.0
    oversells: bool = False
    centre: CentreFacts | None = None
    required_airflow: str | None = None
    queues: tuple[str, ...] = ("default",)
    settings: WorkerSettings | None = None
    port: int = 0
    workers: dict[str, str] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    replaced: set[str] = field(default_factory=set)
    next_secrets: dict[str, SecretRequest] = field(default_factory=dict)
    rotated: Counter[str] = field(default_factory=Counter)
    records: dict[str, JobRecord] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    granted: dict[str, str] = field(default_factory=dict)
    logs: dict[str, bytearray] = field(default_factory=dict)
    bundles: FakeBundles = field(default_factory=FakeBundles)
    _receipts: set[tuple[str, str, str]] = field(default_factory=set)
    _log_begins: dict[str, tuple[str, int]] = field(default_factory=dict)
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
        app.router.add_get(routes.WORKER_SIGNING_KEYS, self._signing_keys)
        app.router.add_post(routes.WORKER_SECRET, self._register_secret)
        app.router.add_post(routes.POLL, self._poll)
        app.router.add_post(routes.JOB_START, self._start_job)
        app.router.add_post(routes.JOB_FINISH, self._finish)
        app.router.add_post(routes.JOB_RELEASE, self._release)
        app.router.add_put(routes.JOB_LOG, self._log)
        app.router.add_get(MANIFEST_PATH, self._manifest, allow_head=False)
        app.router.add_post(PIECES_PATH, self._pieces)
        for method in METHODS:
            app.router.add_route(method, routes.JOB_EXECUTION.replace("{path}", "{path:.*}"), self._execution)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=0.1,
            auto_decompress=False,
            max_line_size=DEFAULT_LIMITS.max_line_bytes,
        )
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

    def hand_out(self, job: Job, worker: str, *, receipt: str = "receipt", log: bytes = b"") -> None:
        """A worker has started the job, and has sent the beginning of its log, before the test began."""
        self.jobs[job.id], self.granted[job.id] = job, receipt
        self.records[job.id] = transition(new_record(job), Start(worker=worker, incarnation=1, at=_now()))
        self._receipts.add((receipt, worker, job.id))
        self.logs[job.id] = bytearray(log)
        self._log_begins[job.id] = holder_entry(self.records[job.id], worker).id, 0

    def hand_over(self, job_id: str, worker: str) -> None:
        """The centre has given a started job up, and another worker has started it."""
        self.give_up(job_id)
        self._swap(job_id, Start(worker=worker, incarnation=1, at=_now()))

    def give_up(self, job_id: str) -> None:
        """The worker of a started job was silent for too long. If no user code ran, the job waits again."""
        self._swap(job_id, GiveUp(reason="no contact", at=_now()))
        self.granted.pop(job_id, None)

    async def withdraw(self, job_id: str, reason: str = "marked as failed") -> None:
        """Airflow no longer wants the job."""
        self.records[job_id] = transition(self.records[job_id], Withdraw(reason=reason, at=_now()))
        await self._notify()

    async def resolve(self, worker: str, *, keep_newer: bool) -> None:
        """An operator decides which of two agents is the worker."""
        self.entries[worker] = resolve_conflict(self.entries[worker], keep_newer=keep_newer, at=_now())
        await self._notify()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until a condition on this relay's state holds; it is checked after every request."""
        async with self._changed:
            await self._changed.wait_for(condition)

    @property
    def holds_a_poll(self) -> bool:
        """A poll is parked that is not a mere probe."""
        return self.parked == 1 and self.polls[-1].poll_timeout_s > 0

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
        request_id = _request_id(request)
        if (broken := self.fault(request)) is not None:
            await self._notify()
            return broken
        try:
            answer = await handler(request)
        except EdgeError as error:
            answer = problem_response(error, request_id)
        answer.headers[routes.REQUEST_ID_HEADER] = request_id
        await self._notify()
        last = request.path.rpartition("/")[2]
        if self.lose_answer[last] > 0:
            self.lose_answer[last] -= 1
            request.protocol.force_close()
        return answer

    def _worker(self, request: web.Request) -> str:
        used = hash_secret(bearer(request))
        for worker, following in list(self.next_secrets.items()):
            if used == following.secret_hash:
                self._replace_secret(worker, following)
        name = self.workers.get(used)
        if name is None and used not in self.replaced:
            raise EdgeError(ErrorCode.UNAUTHENTICATED)
        if name is None or name in self.revoked:
            raise EdgeError(ErrorCode.CREDENTIAL_REVOKED)
        return name

    def _replace_secret(self, worker: str, following: SecretRequest) -> None:
        """The next secret is used for the first time."""
        older = next(one for one, name in self.workers.items() if name == worker)
        del self.workers[older], self.next_secrets[worker]
        self.replaced.add(older)
        self.workers[following.secret_hash] = worker
        self.rotated[worker] = following.rotation

    async def _register_secret(self, request: web.Request) -> web.Response:
        worker = self._worker(request)
        body = await read_model(request, SecretRequest)
        following = self.next_secrets.get(worker)
        if body.secret_hash in {hash_secret(bearer(request)), None if following is None else following.secret_hash}:
            return web.Response(status=204)
        wanted = 0 if self.settings is None else self.settings.rotation
        if body.rotation != wanted or body.rotation <= self.rotated[worker]:
            raise EdgeError(ErrorCode.WRONG_STATE, f"rotation {body.rotation} is not asked for")
        if following is not None and following.rotation == body.rotation:
            raise EdgeError(ErrorCode.WRONG_STATE, "another secret is registered for this rotation")
        self.next_secrets[worker] = body
        return web.Response(status=204)

    async def _enroll(self, request: web.Request) -> web.Response:
        token = bearer(request)
        body = await read_model(request, EnrollRequest)
        if body.protocol not in SUPPORTED_PROTOCOLS:
            raise EdgeError(ErrorCode.PROTOCOL_UNSUPPORTED)
        if token != ENROLL_TOKEN:
            raise EdgeError(ErrorCode.ENROLLMENT_REFUSED)
        name = self.workers.setdefault(body.secret_hash, f"worker-{len(self.workers) + 1}")
        self.enrolled_airflow = body.airflow
        settings = WorkerSettings(version=1, queues=self.queues)
        airflow = None if self.centre is None else self.centre.airflow_version
        keys = () if self.centre is None else self.centre.signing_keys
        return json_response(
            Enrollment(worker=name, site="plant", settings=settings, airflow=airflow, signing_keys=keys)
        )

    async def _signing_keys(self, request: web.Request) -> web.Response:
        self._worker(request)
        return json_response(SigningKeys(sets=None if self.centre is None else self.centre.signing_keys))

    async def _facts(self, request: web.Request) -> web.Response:
        return json_response(
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
        poll = await read_model(request, Poll)
        check_report(poll)
        entry = _entry(worker, poll, agent_seen(poll, request.remote), poll_timeout_s(poll, self.poll_timeout_s))
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
            async with asyncio.timeout(entry.poll_timeout_s), self._changed:
                await self._changed.wait_for(settled)
        except TimeoutError:
            return web.Response(status=204)
        finally:
            self.parked -= 1
        assert answer is not None
        return json_response(answer)

    async def order(
        self, availability: Availability = Availability.ACTIVE, *, slots: int | None = None, rotation: int = 0
    ) -> int:
        """Change the settings of all workers, as an operator does; returns their version."""
        version = 1 if self.settings is None else self.settings.version + 1
        self.settings = WorkerSettings(
            version=version,
            queues=self.queues,
            availability=availability,
            availability_reason=None if availability is Availability.ACTIVE else "the press is moved (by ann)",
            slots=slots,
            rotation=rotation,
        )
        await self._notify()
        return version

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    def _answer(self, worker: str, poll: Poll, agent: AgentSeen) -> PollAnswer | None:
        entry = self.entries[worker]
        conflict = None if gets_jobs(entry, agent) else entry.conflict
        is_active = self.settings is None or self.settings.availability is Availability.ACTIVE
        fresh = self._fresh(poll) if is_active and not conflict else []
        said = directives(
            worker,
            poll,
            {job.id: self.records.get(job.id) for job in poll.jobs},
            self.settings or WorkerSettings(version=poll.settings_version, queues=self.queues),
            conflict=conflict,
            required_airflow=self.required_airflow if fresh else None,
        )
        grants = () if said.required_airflow else tuple(self._grant(worker, job) for job in fresh)
        if not grants and not said:
            return None
        return PollAnswer(
            grants=grants,
            stop=said.stop,
            settings=said.settings,
            conflict=said.conflict,
            conflict_resolved=said.conflict_resolved,
            required_airflow=said.required_airflow,
        )

    def _fresh(self, poll: Poll) -> list[str]:
        waiting = [job for job, record in self.records.items() if record.state is JobState.WAITING]
        fresh = [job for job in waiting if job not in self.granted]
        return fresh if self.oversells else fresh[: poll.free]

    def _grant(self, worker: str, job: str) -> Grant:
        receipt = self.granted[job] = secrets.token_hex(8)
        self._receipts.add((receipt, worker, job))
        return Grant(job=self.jobs[job], receipt=receipt, expires_at=_now() + timedelta(seconds=GRANT_WAIT_S))

    def _open(self, worker: str, job: str, receipt: str) -> None:
        made_for = {(grantee, granted) for known, grantee, granted in self._receipts if known == receipt}
        if not made_for:
            raise EdgeError(ErrorCode.INVALID_REQUEST, "the receipt was not made by this relay")
        if worker not in {grantee for grantee, _ in made_for}:
            raise EdgeError(ErrorCode.FORBIDDEN, "the receipt was made for another worker")
        if (worker, job) not in made_for:
            raise EdgeError(ErrorCode.INVALID_REQUEST, "the receipt belongs to another job")

    def _swap(self, job: str, event: Event, *, incarnation: int | None = None) -> None:
        before = self.records.get(job)
        after = transition(before, event)
        holder = None if before is None else before.holder
        is_other = incarnation is not None and holder is not None and not is_holding_agent(holder, incarnation, None)
        if after is not before and is_other and holder is not None and incarnation is not None:
            check_taken_over(self.entries.get(holder.worker), incarnation=incarnation, key_hash=None, now=_now())
        self.records[job] = after

    async def _start_job(self, request: web.Request) -> web.Response:
        worker, job = self._worker(request), job_of(request)
        body = await read_model(request, StartRequest)
        self._open(worker, job, body.receipt)
        event = Start(worker=worker, incarnation=body.incarnation, at=_now(), grant=body.receipt)
        self._swap(job, event, incarnation=body.incarnation)
        return web.Response(status=204)

    async def _finish(self, request: web.Request) -> web.Response:
        worker, job = self._worker(request), job_of(request)
        body = await read_model(request, FinishRequest)
        if body.receipt is not None:
            self._open(worker, job, body.receipt)
        event = Finish(
            worker, body.exit_code, body.reason, _now(), body.release, grant=body.receipt, result=body.result
        )
        self._swap(job, event, incarnation=body.incarnation)
        self.finishes.setdefault(job, []).append(body)
        return web.Response(status=204)

    async def _release(self, request: web.Request) -> web.Response:
        worker, job = self._worker(request), job_of(request)
        body = await read_model(request, ReleaseRequest)
        self._open(worker, job, body.receipt)
        event = Release(worker, body.reason, body.counted, _now(), grant=body.receipt, delay_s=body.delay_s)
        self._swap(job, event)
        self.released.append(body)
        return web.Response(status=204)

    async def _log(self, request: web.Request) -> web.Response:
        worker, job = self._worker(request), job_of(request)
        offset = request.query.get("offset", "")
        if not offset.isdecimal():
            raise EdgeError(ErrorCode.INVALID_REQUEST, "send offset=N")
        if request.content_type != "application/octet-stream":
            raise EdgeError(ErrorCode.UNSUPPORTED_MEDIA_TYPE)
        holder = holder_entry(self.records.get(job), worker).id
        self.wire_sizes.append(request.content_length or 0)
        body = await read_bounded(request, MAX_CHUNK_BYTES)
        chunk = decode(body, request.headers.get("Content-Encoding", ""), MAX_CHUNK_DECODED_BYTES)
        return json_response(LogPosition(offset=self._append(job, holder, int(offset), chunk)))

    def _append(self, job: str, holder: str, offset: int, chunk: bytes) -> int:
        """The log file of each holder begins where the one before ends."""
        log = self.logs.setdefault(job, bytearray())
        last, begin = self._log_begins.get(job, ("", 0))
        if last != holder:
            begin = len(log)
        durable = len(log) - begin
        if offset > durable:
            raise EdgeError(ErrorCode.OFFSET_MISMATCH, expected_offset=durable)
        self._log_begins[job] = holder, begin
        log += chunk[durable - offset :]
        return len(log) - begin

    async def _manifest(self, request: web.Request) -> web.Response:
        worker = self._worker(request)
        job, bundle, digest = manifest_request(request)
        check_bundle(self.records.get(job), worker, bundle, digest)
        return self.bundles.manifest(digest)

    async def _pieces(self, request: web.Request) -> web.StreamResponse:
        worker = self._worker(request)
        bundle, digest = version_of(request)
        wanted = await pieces_request(request)
        check_bundle(self.records.get(wanted.job), worker, bundle, digest)
        return await self.bundles.pieces(request, digest, wanted)

    async def _execution(self, request: web.Request) -> web.Response:
        worker, job = self._worker(request), job_of(request)
        target, _, query = request.raw_path.partition("?")
        raw_path = target.partition("/execution/")[2]
        split_path(raw_path)
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise EdgeError(ErrorCode.UNSUPPORTED_MEDIA_TYPE)
        check_holder(self.records.get(job), worker)
        body = await read_bounded(request, DEFAULT_LIMITS.max_call_bytes)
        headers, request_id = dict(request.headers), _request_id(request)
        call = SeenCall(job, request.method, raw_path, query, headers, body, request_id)
        self.calls.append(call)
        await self._notify()
        return await self.execution(call)


def _request_id(request: web.Request) -> str:
    sent = request.headers.get(routes.REQUEST_ID_HEADER, "")
    return sent if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex


def _entry(worker: str, poll: Poll, agent: AgentSeen, poll_timeout_s: float) -> WorkerEntry:
    return WorkerEntry(
        worker=worker,
        site="plant",
        agent=agent,
        relay="fake",
        poll_timeout_s=poll_timeout_s,
        slots=poll.slots,
        free=poll.free,
        draining=poll.draining,
        jobs=poll.jobs,
        versions=poll.versions,
        health=poll.health,
    )


def _now() -> datetime:
    return datetime.now(UTC)


def problem_answer(code: ErrorCode, **extra: Any) -> web.Response:
    """A refusal of the relay, for `fault`."""
    return problem_response(EdgeError(code, **extra), uuid.uuid4().hex)


def html_page(status: int = 502) -> web.Response:
    """The answer of a proxy or a load balancer that does not reach the relay."""
    return web.Response(status=status, text="<html><body>Bad gateway</body></html>", content_type="text/html")
