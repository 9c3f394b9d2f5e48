"""A task's calls to Airflow's Execution API, forwarded to a keeper's gate.

The path is forwarded unchanged; the gate alone decides what it means, see `execution_paths`.
"""

import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from edge_broker.records import RecordStore
from edge_relay.gate.answers import GateAnswer
from edge_relay.gate.client import GateClient
from edge_relay.identity.principals import Principal
from edge_relay.jobs.takeover import check_uncontested
from edge_relay.metrics.replica import Metrics
from edge_relay.stores.worker_store import WorkerStore
from edge_schemas.gate.auth import GateCall
from edge_schemas.gate.execution_paths import CallClass, call_class, split_path
from edge_schemas.gate.limits import CallLimits
from edge_schemas.life.holder_calls import check_holder
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_service.body_memory import Memory

_QUERY = re.compile(r"[!-~]*")


class ExecutionCalls:
    """Checks calls of tasks and forwards them.

    Args:
        gate: None where the relay has no gate: each call is refused.
        records: Of the jobs.
        workers: Of the agents that use a credential.
        metrics: Counts and times the calls.
        limits: Of calls and answers.
    """

    def __init__(
        self,
        gate: GateClient | None,
        records: RecordStore,
        workers: WorkerStore,
        metrics: Metrics,
        limits: CallLimits,
    ) -> None:
        self.limits = limits
        self._gate = gate
        self._records = records
        self._workers = workers
        self._metrics = metrics

    async def check_holder(self, job: str, principal: Principal) -> None:
        """Refuse a worker that is not the job's holder, and an agent that may be a copy of the holder's.

        Raises:
            EdgeError: See `check_holder` of the records, and `check_uncontested`.
        """
        record = check_holder(await self._records.get(job), principal.worker)
        await check_uncontested(self._workers, record, principal)

    @asynccontextmanager
    async def call(
        self, call: GateCall, kind: CallClass, headers: Mapping[str, str], memory: Memory
    ) -> AsyncIterator[GateAnswer]:
        """The gate's answer to a call. A large body is read while inside.

        Args:
            call: The call.
            kind: Of the call, for the metric.
            headers: Of the worker's request.
            memory: Counts the bytes of the answer.

        Raises:
            EdgeError: See `GateClient.streamed`.
        """
        if self._gate is None:
            raise EdgeError(ErrorCode.GATE_UNAVAILABLE, "this relay has no gate: RELAY_GATE_URLS is not set")
        async with AsyncExitStack() as stack:
            outcome, began = "abandoned", time.monotonic()
            try:
                answer = await stack.enter_async_context(self._gate.streamed(call, headers, memory))
                outcome = "answered"
            except EdgeError:
                outcome = "unavailable"
                raise
            finally:
                self._metrics.execution_seconds.labels(kind, outcome).observe(time.monotonic() - began)
            yield answer


def gate_target(raw_path: str, job: str, limits: CallLimits) -> tuple[str, CallClass]:
    """Path and query for the gate, and the kind of the call.

    Args:
        raw_path: The request target as it was on the wire; in absolute form if the client sent that form.
        job: Named by the path.
        limits: Of path and query.

    Raises:
        EdgeError: `invalid_request` or `path_too_long`.
    """
    path, _, query = raw_path.partition("?")
    before = routes.JOB_EXECUTION.format(job=job, path="")
    if not path.startswith(before):
        raise EdgeError(ErrorCode.INVALID_REQUEST, "send the path in its plain form")
    raw = path.removeprefix(before)
    segments = split_path(raw)
    if not _QUERY.fullmatch(query) or "#" in query:
        raise EdgeError(ErrorCode.INVALID_REQUEST, "the query holds characters that must be percent-encoded")
    limits.check_path(segments, query)
    target = routes.GATE_EXECUTION.format(job=job, path=raw)
    return (f"{target}?{query}" if query else target), call_class(segments)
