"""What end-to-end tests read besides Airflow's own API: the worker's folders and the messages in NATS."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from edge_broker import subjects
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import JetStreamError
from edge_broker.connection.settings import BrokerSettings
from edge_broker.permissions import ADMIN
from edge_schemas.wire.jobs import Job
from local.system.edge import EdgeWorker
from local.system.system import LocalSystem

NO_MESSAGE = 10037
T = TypeVar("T")


async def until(check: Callable[[], Awaitable[T]], *, timeout_s: float = 30.0, what: str = "") -> T:
    """Wait until `check` answers something true and return it; asked every 100 ms, since each time costs Airflow."""
    deadline = time.monotonic() + timeout_s
    while not (value := await check()):
        assert time.monotonic() < deadline, f"did not happen within {timeout_s:g} s: {what}"
        await asyncio.sleep(0.1)
    return value


@asynccontextmanager
async def admin(system: LocalSystem) -> AsyncIterator[Broker]:
    """A connection to the system's NATS that may do everything."""
    facts = system.relay_facts
    password = (facts.secrets_dir / f"{ADMIN}.password").read_text().strip()
    async with Broker(BrokerSettings((facts.nats_url,), ADMIN, password)) as broker:
        await broker.wait_connected(10)
        yield broker


async def messages(broker: Broker, stream: str, subject: str = ">") -> list[dict[str, Any]]:
    """All messages of a stream in order, headers and data decoded."""
    found: list[dict[str, Any]] = []
    sequence = 1
    while True:
        try:
            answer = await broker.api(f"STREAM.MSG.GET.{stream}", {"seq": sequence, "next_by_subj": subject})
        except JetStreamError as error:
            if error.code == NO_MESSAGE:
                return found
            raise
        message = answer["message"]
        for part in ("data", "hdrs"):
            message[part] = base64.b64decode(message.get(part, ""))
        found.append(message)
        sequence = message["seq"] + 1


def job_folders(worker: EdgeWorker, dag: str, run: str, task: str, map_index: int = -1) -> list[Path]:
    """The worker's folders of a task's jobs, running or kept, oldest try first. A folder is named for its job."""
    found = []
    for file in worker.state.glob("*/*/job.json"):
        identity = Job.model_validate_json(file.read_bytes()).task
        if identity and (identity.dag_id, identity.run_id, identity.task_id, identity.map_index) == (
            dag,
            run,
            task,
            map_index,
        ):
            found.append((identity.try_number, file.parent))
    return [folder for _, folder in sorted(found)]


async def uploaded_log(broker: Broker, job: str) -> bytes:
    """A job's log as the relay stored it."""
    stored = await messages(broker, subjects.LOGS, f"edge.logs.*.*.{job}")
    return b"".join(message["data"] for message in stored)
