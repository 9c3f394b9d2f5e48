"""What producers do, on the workers' listener: submit jobs, read and list them, cancel them."""

from dataclasses import dataclass
from functools import partial

import structlog
from aiohttp import web

from edge_relay.http.bodies import JsonBodies, job_of, json_response, read_model
from edge_relay.http.producer_callers import ProducerCallers, owner_of, patience_s
from edge_relay.http.queries import parse_query
from edge_relay.http.raw_bodies import in_pieces
from edge_relay.identity.operators.operator import Operator
from edge_relay.submissions.accept import Submissions
from edge_relay.submissions.lists import SubmittedLists
from edge_relay.submissions.logs import SubmittedLogs
from edge_relay.submissions.status import SubmittedJobs
from edge_relay.why.for_producers import WaitCauses
from edge_schemas.producers.queries import JobsQuery, LogQuery, NoQuery, WaitQuery
from edge_schemas.producers.submissions import (
    MAX_BATCH_BYTES,
    MAX_SUBMISSION_BYTES,
    Cancellation,
    Submission,
    SubmissionBatch,
)
from edge_schemas.wire import routes

LOG_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class ProducerParts:
    """What the calls of producers do."""

    submissions: Submissions
    jobs: SubmittedJobs
    lists: SubmittedLists
    logs: SubmittedLogs
    causes: WaitCauses


class ProducerHandlers:
    """The calls of producers."""

    def __init__(self, callers: ProducerCallers, bodies: JsonBodies, parts: ProducerParts) -> None:
        self._callers = callers
        self._bodies = bodies
        self._parts = parts

    def routes(self) -> list[web.RouteDef]:
        """What they serve."""
        return [
            web.post(routes.QUEUE_JOBS, self.submit),
            web.post(routes.QUEUE_JOB_BATCHES, self.submit_all),
            web.get(routes.QUEUE_JOBS, self.show_list, allow_head=False),
            web.get(routes.QUEUE, self.show_queue, allow_head=False),
            web.get(routes.JOB, self.show_job, allow_head=False),
            web.get(routes.JOB_LOG, self.show_log, allow_head=False),
            web.get(routes.JOB_WHY, self.show_why, allow_head=False),
            web.post(routes.JOB_CANCEL, self.cancel),
        ]

    async def submit(self, request: web.Request) -> web.Response:
        """`POST /v1/queues/{queue}/jobs`: 201 for a new job, 200 for one that was submitted before."""
        producer, queue = await self._callers.of_queue(request, change=True)
        with self._bodies.held(owner_of(producer.name)) as account:
            body = await read_model(request, Submission, MAX_SUBMISSION_BYTES, account.add)
            done = await self._parts.submissions.submit(producer, queue, body)
        return json_response(done, status=201 if done.is_new else 200)

    async def submit_all(self, request: web.Request) -> web.Response:
        """`POST /v1/queues/{queue}/job-batches`: each is accepted or rejected for itself."""
        producer, queue = await self._callers.of_queue(request, change=True)
        with self._bodies.held(owner_of(producer.name)) as account:
            body = await read_model(request, SubmissionBatch, MAX_BATCH_BYTES, account.add)
            return json_response(await self._parts.submissions.submit_all(producer, queue, body.jobs))

    async def show_list(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/queues/{queue}/jobs`."""
        producer, queue = await self._callers.of_queue(request, change=False)
        query = parse_query(request, JobsQuery)
        scanned = partial(self._callers.scanned, producer)
        return await self._answer(request, producer, json_response(await self._parts.lists.page(queue, query, scanned)))

    async def show_queue(self, request: web.Request) -> web.Response:
        """`GET /v1/queues/{queue}`."""
        producer, queue = await self._callers.of_queue(request, change=False)
        parse_query(request, NoQuery)
        return json_response(self._parts.lists.figures(queue, partial(self._callers.scanned, producer)))

    async def show_job(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/jobs/{job}`; with `wait`, answered at the end of the job."""
        producer = await self._callers.producer(request, change=False)
        job, query = _job(request), parse_query(request, WaitQuery)
        check, wait_s = self._callers.check_again(request), patience_s(producer, query.wait)
        status = await self._parts.jobs.status(producer, job, wait_s=wait_s, check=check)
        return await self._answer(request, producer, json_response(status))

    async def show_log(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/jobs/{job}/log`: bytes from an offset; with `wait`, as soon as there are some."""
        producer = await self._callers.producer(request, change=False)
        job, query = _job(request), parse_query(request, LogQuery)
        check, wait_s = self._callers.check_again(request), patience_s(producer, query.wait)
        found = await self._parts.logs.read(producer, job, offset=query.offset, wait_s=wait_s, check=check)
        headers = {
            routes.LOG_OFFSET_HEADER: str(found.part.offset),
            routes.JOB_STATE_HEADER: found.state.value,
            # Bytes of a program that anybody may have chosen: no browser shows them.
            "Content-Disposition": "attachment",
        }
        answer = web.Response(body=found.part.data, content_type=LOG_TYPE, headers=headers)
        return await self._answer(request, producer, answer)

    async def show_why(self, request: web.Request) -> web.Response:
        """`GET /v1/jobs/{job}/why`: why the job waits."""
        producer = await self._callers.producer(request, change=False)
        job = _job(request)
        parse_query(request, NoQuery)
        scanned = partial(self._callers.scanned, producer)
        return json_response(await self._parts.causes.of_job(producer, job, scanned))

    async def cancel(self, request: web.Request) -> web.Response:
        """`POST /v1/jobs/{job}/cancel`; a repeat changes nothing, and the body may be left out."""
        producer = await self._callers.producer(request, change=True)
        job = _job(request)
        body = Cancellation()
        if request.can_read_body:
            body = await self._bodies.small(request, owner_of(producer.name), Cancellation)
        return json_response(await self._parts.jobs.cancel(producer, job, body.reason))

    async def _answer(self, request: web.Request, producer: Operator, answer: web.Response) -> web.StreamResponse:
        """Send an answer that may be large. It counts as a body does until its producer has it.

        Raises:
            EdgeError: `rate_limited`.
            ConnectionResetError: See `in_pieces`.
        """
        with self._bodies.held(owner_of(producer.name)) as account:
            if isinstance(answer.body, bytes):
                account.add(len(answer.body))
            return await in_pieces(request, answer)


def _job(request: web.Request) -> str:
    job = job_of(request)
    structlog.contextvars.bind_contextvars(job=job)
    return job
