"""Runs the handlers of payloads: from the grant to the report of each."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field

from edge_schemas.wire.job_calls import FinishRequest, ReleaseRequest, StartRequest
from edge_schemas.wire.jobs import JobKind
from edge_schemas.wire.polls import Grant, StopDirective
from edge_schemas.wire.worker_report import JobPhase
from edge_worker.client.ending import Again, Ending, Finished, Stop, StopKind
from edge_worker.client.handling import Handler, Handling
from edge_worker.client.job_log import JobLog
from edge_worker.jobs.registry import JobRegistry
from edge_worker.log import EventLog
from edge_worker.relay.call_result import Refused
from edge_worker.relay.client import RelayClient
from edge_worker.relay.link import Link
from edge_worker.relay.retry import until_final

log = EventLog("edge_worker.client.payloads")


@dataclass
class Payloads:
    """Runs the handlers; the `Runner` of the agent's loops.

    Attributes:
        incarnation: Of this run.
        group: Owns the tasks of all jobs.
    """

    client: RelayClient
    link: Link
    table: JobRegistry[Handling]
    handler: Handler
    incarnation: int
    group: asyncio.TaskGroup
    _tasks: set[asyncio.Task[object]] = field(default_factory=set)

    def accept(self, grant: Grant) -> None:
        """Handles a granted payload, or releases it if no slot is free."""
        known = self.table.get(grant.job.id)
        if known is not None and known.phase is not JobPhase.FINISHING:
            # Granted again because the start has not arrived yet.
            known.receipt = grant.receipt
            return
        one = Handling(grant)
        is_payload = grant.job.kind is JobKind.PAYLOAD
        refusal = self.table.refusal() if is_payload else f"this consumer accepts no {grant.job.kind}"
        if refusal is None:
            self.table.add(one)
            self._own(self._work(one), one)
        else:
            request = ReleaseRequest(receipt=one.receipt, reason=refusal, counted=not is_payload)
            self._own(self._release(one, request), one)

    def stop(self, directive: StopDirective) -> None:
        """Ends a handler whose job is not wanted, or not held by this consumer."""
        if (one := self.table.get(directive.job)) is not None:
            one.stop(Stop(StopKind.DROPPED if directive.drop else StopKind.WITHDRAWN, directive.reason))

    @property
    def busy(self) -> int:
        """How many jobs are not over."""
        return len(self._tasks)

    async def until_idle(self) -> None:
        """Waits until none is left."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def drain(self, why: str) -> None:
        """Releases what was not started."""
        for one in self.table:
            if one.phase is JobPhase.GRANTED:
                one.stop(Stop(StopKind.RELEASED, why))

    def stop_all(self, why: str) -> None:
        """Ends every handler."""
        for one in self.table:
            one.stop(Stop(StopKind.RELEASED, why))

    def log_to_tasks(self, text: str) -> None:
        """A handler is told by being stopped."""

    def close_all(self) -> None:
        """Abandons what is left: the relay gives these jobs up once this consumer polls without them, or is silent."""
        for task in self._tasks:
            task.cancel()

    def _own(self, work: Coroutine[None, None, object], one: Handling) -> None:
        task = self.group.create_task(work, name=f"payload-{one.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, one: Handling) -> None:
        try:
            await until_final(lambda: self._start(one), pause=self.link.pause)
        except Refused as error:
            log.info("payload_not_started", job=one.id, code=error.code, reason=str(error))
            self.table.forget(one)
            return
        one.phase = JobPhase.RUNNING
        self.table.changed()
        log.info("payload_started", job=one.id, queue=one.job.queue, attempt=one.job.attempt)
        ending = await self._handle(one)
        one.phase = JobPhase.FINISHING
        self.table.changed()
        try:
            await self._report(one, ending)
        except Refused as error:
            # The job was given up, or another consumer has it: what this handler did was not the last word.
            log.warning("payload_not_reported", job=one.id, code=error.code, reason=str(error))
        self.table.forget(one)

    async def _start(self, one: Handling) -> None:
        await self.client.start(one.id, StartRequest(receipt=one.receipt, incarnation=self.incarnation))

    async def _handle(self, one: Handling) -> Ending | None:
        lines = JobLog(self.client, self.link, one.id)
        upload = asyncio.create_task(lines.run(), name=f"payload-log-{one.id}")
        try:
            ending = await one.handle(self.handler, lines.append)
            lines.close()
            await upload
        finally:
            upload.cancel()
        return ending

    async def _report(self, one: Handling, ending: Ending | None) -> None:
        match ending:
            case Finished():
                await self._finish(one, ending)
            case Again():
                request = ReleaseRequest(receipt=one.receipt, reason=ending.reason, delay_s=ending.delay_s)
                if not await self._release(one, request):
                    # The job was cancelled in the meantime.
                    await self._finish(one, Finished(reason=ending.reason))

    async def _finish(self, one: Handling, ending: Finished) -> None:
        request = FinishRequest(
            incarnation=self.incarnation,
            receipt=one.receipt,
            exit_code=ending.exit_code,
            reason=ending.reason,
            release=ending.release,
            result=ending.result,
        )
        await until_final(lambda: self.client.finish(one.id, request), pause=self.link.pause)

    async def _release(self, one: Handling, request: ReleaseRequest) -> bool:
        """Whether the relay has accepted the release."""
        try:
            await until_final(lambda: self.client.release(one.id, request), pause=self.link.pause)
        except Refused as error:
            log.info("payload_release_refused", job=one.id, code=error.code, reason=str(error))
            return False
        return True
