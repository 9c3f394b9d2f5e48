"""Compares the workers with what Airflow would hand out to them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from edge_bridge.doctor.airflow_checks import TOLERANCE
from edge_bridge.doctor.database_checks import EXECUTORS, DatabaseDoctor
from edge_bridge.executor.settings import CALLBACK_QUEUE, CONNECTION_TEST_QUEUE
from edge_bridge.settings import SECTION, Conf, text
from edge_broker.doctor import check_ids as nats
from edge_broker.doctor.nats_doctor import NatsDoctor
from edge_broker.permissions import KEEPER
from edge_broker.subjects import WORKERS_BUCKET
from edge_schemas.wire.worker_entry import WorkerEntry
from edge_service.findings import Check, Finding, ok, warning

WORKERS, PARALLELISM, QUEUES = "fleet.workers", "fleet.parallelism", "fleet.queues"
ONLINE = timedelta(minutes=5)
STILL_THERE = timedelta(days=7)
"""A worker that has not polled for so long does not count: a revoked worker can't be distinguished from it here."""
_MANY_S = 30.0


class FleetDoctor:
    """Checks the workers as the keeper sees them."""

    def __init__(self, conf: Conf, broker: NatsDoctor, database: DatabaseDoctor) -> None:
        self._conf = conf
        self._broker = broker
        self._database = database
        self._workers: list[WorkerEntry] = []

    def checks(self) -> Iterator[Check]:
        """The checks of the fleet; they need the keeper's password."""
        yield Check(WORKERS, self._read, (nats.JETSTREAM, nats.rights(KEEPER)), _MANY_S)
        yield Check(PARALLELISM, self._parallelism, (WORKERS,))
        yield Check(QUEUES, self._queues, (WORKERS, EXECUTORS, TOLERANCE))

    async def _read(self) -> Finding:
        now = datetime.now(UTC)
        for value in (await self._broker.values(WORKERS_BUCKET)).values():
            try:
                entry = WorkerEntry.model_validate_json(value)
            except ValidationError:
                continue  # of a relay of a later release
            if now - entry.agent.last_poll_at < STILL_THERE:
                self._workers.append(entry)
        if not self._workers:
            advice = "Enrol one: 'edge-relay enroll-token create', then 'edge-worker enroll' and 'edge-worker run'."
            return warning(WORKERS, "no worker has polled in the last 7 days", advice)
        online = sum(now - entry.agent.last_poll_at < ONLINE for entry in self._workers)
        if not online:
            advice = "See 'edge-relay workers list', and run 'edge-worker doctor' at a site."
            return warning(WORKERS, f"none of {len(self._workers)} workers has polled in the last 5 minutes", advice)
        return ok(WORKERS, f"{online} of {len(self._workers)} workers have polled in the last 5 minutes")

    async def _parallelism(self) -> Finding:
        slots = sum(entry.slots for entry in self._workers)
        core = int(self._conf.get("core", "parallelism") or 0)
        own = int(text(self._conf, "parallelism") or 0)
        # 0 means no limit in Airflow's setting.
        if 0 < core < slots:
            advice = f"Set [core] parallelism to {slots} or more, or to 0 for no limit; it is for each scheduler."
            return warning(PARALLELISM, f"the workers have {slots} slots, [core] parallelism is {core}", advice)
        if own < slots:
            advice = f"Set it to more than {slots}: it counts jobs that wait, too."
            return warning(PARALLELISM, f"the workers have {slots} slots, [{SECTION}] parallelism is {own}", advice)
        return ok(PARALLELISM, f"[core] parallelism {core} leaves none of the workers' {slots} slots empty")

    async def _queues(self) -> Finding:
        if any(entry.queues is None for entry in self._workers):
            advice = "Upgrade the relays: since this release they report which queues a worker serves."
            return warning(QUEUES, "it is not known which queues the workers serve", advice)
        served = {queue for entry in self._workers for queue in entry.queues or ()}
        wanted = dict(self._database.our_queues)
        for option in (CALLBACK_QUEUE, CONNECTION_TEST_QUEUE):
            if queue := text(self._conf, option):
                wanted.setdefault(queue, f"[{SECTION}] {option}")
        unserved = [f"{queue!r} (of {where})" for queue, where in wanted.items() if queue not in served]
        if unserved:
            advice = (
                "Their tasks wait until a worker serves the queue. Enrol one for it ('edge-relay enroll-token create "
                "--queues'), or correct the queue in the DAG."
            )
            return warning(QUEUES, f"no worker serves queue {', '.join(unserved)}", advice)
        return ok(QUEUES, f"each of {len(wanted)} named queues has a worker")
