"""Carries out the guide for operators: each command as written, against a standalone relay and real agents."""

import asyncio
import contextlib
import io
import json
import os
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, TypeAlias

import pytest

from edge_broker.connection.broker import Broker
from edge_broker.connection.settings import BrokerSettings
from edge_broker.permissions import ADMIN
from edge_broker.records import RecordStore
from edge_relay.cli import main
from edge_schemas.life.events import Release
from edge_schemas.life.model import JobRecord, JobState
from edge_schemas.life.transition import RELEASES_BEFORE_PARKED
from edge_schemas.wire.jobs import Job, TaskWork
from local.processes.child import Child, clean_environment, stop_all
from local.system.relay import Relay, RelayFacts
from support.nats.server import eventually
from support.pages.pages import Page
from support.relay.agents import publish
from support.worker.agent_process import EDGE_WORKER, WITH_FAKE_RUNTIME, kill_jobs
from support.worker.fake_runtime import script_job

DAG, RUN, TASK = "press_daily", "manual__2026-12-01", "read_meter"
WITHIN_S = 10.0
"""A change reaches a worker within two seconds; a busy machine gets more."""
_WAITS = "print('up')\nwhile not os.path.exists({go!r}): time.sleep(0.02)"


class Machine:
    """An edge machine with its folders and, while it runs, its agent."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        # A Unix socket must have a short path.
        self.runtime = Path(mkdtemp(prefix="edge-fleet-"))
        self._log = directory / "agent.log"
        self.environment = clean_environment(
            {
                "EDGE_WORKER_STATE_DIR": str(self.state),
                "EDGE_WORKER_RUNTIME_DIR": str(self.runtime),
                "EDGE_WORKER_GRACE_S": "0.5",
                "EDGE_WORKER_SLOTS": "2",
                "PATH": os.environ["PATH"],
            }
        )
        directory.mkdir()
        self.agent = self._child()

    @property
    def name(self) -> str:
        """Of the worker."""
        name: str = json.loads((self.state / "worker.json").read_text())["enrollment"]["worker"]
        return name

    def logged(self, event: str) -> bool:
        """Whether an agent has logged this."""
        return event in self._log.read_text()

    async def run(self) -> None:
        """Start the agent. Its jobs are Python snippets, as there is no Airflow here."""
        self.agent = self._child()
        await self.agent.start()

    async def stop(self) -> None:
        """End everything."""
        await stop_all([self.agent])
        kill_jobs(self.state / "jobs")
        rmtree(self.runtime, ignore_errors=True)

    def _child(self) -> Child:
        return Child("agent", WITH_FAKE_RUNTIME, log=self._log, cwd=self._log.parent, env=self.environment)


class Fleet:
    """A standalone relay and two machines of one site.

    Attributes:
        one: The machine that the page acts on.
        other: Another one, to which only actions on the site or a label apply.
    """

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._directory = directory
        self._relay = Relay(directory)
        self._facts: RelayFacts
        self._broker: Broker
        self.one, self.other = Machine(directory / "one"), Machine(directory / "other")
        self._token = ""
        self._places: dict[str, str] = {}
        self._jobs: list[Job] = []
        monkeypatch.setenv("XDG_CONFIG_HOME", str(directory / "config"))
        for name in [name for name in os.environ if name.startswith("RELAY_")]:
            monkeypatch.delenv(name)

    async def start(self, stack: contextlib.AsyncExitStack) -> None:
        """The relay, and a connection to its NATS for the jobs that an executor would publish."""
        self._facts = await self._relay.start()
        password = (self._facts.secrets_dir / f"{ADMIN}.password").read_text().strip()
        settings = BrokerSettings((self._facts.nats_url,), ADMIN, password)
        self._broker = await stack.enter_async_context(Broker(settings))
        await self._broker.wait_connected(10)
        self._places = {
            "http://127.0.0.1:8444": self._facts.operator_url,
            "/srv/edge-relay/secrets/access.token": str(self._facts.access_token_file),
            "https://relay.example.com": self._facts.url,
            "/etc/edge-worker/ca.pem": str(self._facts.ca_file),
        }

    async def stop(self) -> None:
        """The machines first."""
        for machine in (self.one, self.other):
            await machine.stop()
        await stop_all([self._relay.child])

    async def said(self, command: str) -> str:
        """What a command of `edge-relay` prints; it must succeed."""
        program, *words = shlex.split(self._placed(command))
        assert program == "edge-relay"
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = await asyncio.to_thread(main, words)
        assert status == 0, f"{command}\n{err.getvalue()}"
        return out.getvalue()

    async def json(self, command: str) -> Any:
        """The document that a command prints."""
        return json.loads(await self.said(f"{command} --json"))

    async def row(self, machine: Machine) -> dict[str, Any]:
        """A worker as operators see it."""
        found: dict[str, Any] = (await self.json(f"edge-relay workers show {machine.name}"))["row"]
        return found

    async def until(self, machine: Machine, **wanted: object) -> None:
        """A worker has applied its settings, and is as wanted."""

        async def is_so() -> bool:
            row = await self.row(machine)
            applied = row.get("applied_version") == row["settings_version"] or row["state"] == "offline"
            return applied and all(row.get(name) == value for name, value in wanted.items())

        await eventually(is_so, timeout_s=WITHIN_S, what=f"{wanted} of {machine.name}")

    async def job(self, queue: str = "default", script: str = "pass") -> Job:
        """A job of the DAG run of the page, published as the executor does."""
        job = script_job(script, queue)
        assert isinstance(job.work, TaskWork)
        names = {"dag_id": DAG, "run_id": RUN, "task_id": TASK}
        work = job.work.model_copy(update={"task": job.work.task.model_copy(update=names)})
        return await publish(self._broker, job.model_copy(update={"work": work}))

    async def running(self) -> tuple[Job, Path]:
        """A job that runs on the first machine, until the file exists."""
        go = self._directory / f"go-{len(self._jobs)}"
        job = await self.job(script=_WAITS.format(go=str(go)))
        self._jobs.append(job)
        await eventually(lambda: self.is_in(job, JobState.RUNNING), timeout_s=WITHIN_S, what="a running job")
        return job, go

    async def record(self, job: Job) -> JobRecord:
        """Of a job."""
        record = await RecordStore(self._broker).get(job.id)
        assert record is not None
        return record

    async def is_in(self, job: Job, state: JobState) -> bool:
        """Whether a job is in this state."""
        return (await self.record(job)).state is state

    async def ended(self, job: Job) -> None:
        """Wait until a job has ended."""
        await eventually(lambda: self.is_in(job, JobState.ENDED), timeout_s=WITHIN_S, what=f"the end of {job.id}")

    async def parked(self, queue: str) -> Job:
        """A job that was released too often."""
        job = await self.job(queue)
        for number in range(RELEASES_BEFORE_PARKED):
            event = Release(self.one.name, "no room for it", counted=True, at=datetime.now(UTC), grant=str(number))
            await RecordStore(self._broker).change(job.id, event)
        return job

    # The acts, in the order of the page.

    async def add_context(self, command: str) -> None:
        """The relay gets a name."""
        await self.said(command)
        assert "plants" in await self.said("edge-relay context list")

    async def overview(self, command: str) -> None:
        """An empty installation leads to the next step."""
        said = await self.said(command)
        assert "Next" in said
        assert f"edge-worker enroll --relay-url {self._facts.url}" in said
        assert self._facts.ca_file.read_text() in said

    async def create_token(self, command: str) -> None:
        """The token for both machines."""
        self._token = (await self.said(command)).split()[0]
        assert self._token.startswith("ere_")

    async def trust(self, command: str) -> None:
        """Both machines trust the relay's CA."""
        name, value = self._placed(command).removeprefix("export ").split("=")
        for machine in (self.one, self.other):
            machine.environment[name] = value

    async def enroll(self, command: str) -> None:
        """Both machines."""
        command = self._placed(command)
        for machine in (self.one, self.other):
            process = await asyncio.create_subprocess_exec(
                *(*EDGE_WORKER, *shlex.split(command)[1:]),
                env=machine.environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output, _ = await process.communicate(f"{self._token}\n".encode())
            assert process.returncode == 0, output.decode()
            assert machine.name.startswith("plant-7-")
        self._places["WORKER"] = self.one.name

    async def run_agents(self, _command: str) -> None:
        """Of each machine without an agent."""
        for machine in (self.one, self.other):
            if not machine.agent.running:
                await machine.run()
            await self.until(machine, state="online")

    async def list_workers(self, command: str) -> None:
        """Both are online."""
        said = await self.said(command)
        assert self.one.name in said
        assert said.count("online") == 2

    async def show_worker(self, command: str) -> None:
        """It shows the enrolment in the history."""
        assert "worker-enrolled" in await self.said(command)

    async def move(self, command: str) -> None:
        """The worker serves the other queue only, and runs its jobs."""
        await self.said(command)
        await self.until(self.one, queues=["press"])
        job = await self.job("press")
        await self.ended(job)

    async def move_back(self, command: str) -> None:
        """It serves the queues of its enrolment."""
        await self.said(command)
        await self.until(self.one, queues=["default"])

    async def more_slots(self, command: str) -> None:
        """The agent has them."""
        await self.said(command)
        await self.until(self.one, slots=8)

    async def own_slots(self, command: str) -> None:
        """The agent has those of its own setting."""
        await self.said(command)
        await self.until(self.one, slots=2)

    async def label(self, command: str) -> None:
        """The worker has them."""
        await self.said(command)
        await self.until(self.one, labels={"vendor": "acme", "line": "3"})

    async def find_by_label(self, command: str) -> None:
        """The filter leaves out the other machine."""
        said = await self.said(command)
        assert self.one.name in said
        assert self.other.name not in said

    async def pause_dry(self, command: str) -> None:
        """Nothing changes."""
        assert f"Would pause 1 worker ({self.one.name})" in await self.said(command)
        await self.until(self.one, state="online")

    async def pause_by_label(self, command: str) -> None:
        """The order has reason and end; the other machine keeps working."""
        await self.said(command)
        await self.until(self.one, state="paused")
        order = (await self.row(self.one))["order"]
        assert order["reason"] == "driver update"
        assert order["until"]
        await self.until(self.other, state="online")

    async def resume_by_label(self, command: str) -> None:
        """It takes jobs again."""
        await self.said(command)
        await self.until(self.one, state="online")

    async def pause_site(self, command: str) -> None:
        """No worker of the site gets a job; what runs goes on."""
        _, go = await self.running()
        await self.said(command)
        for machine in (self.one, self.other):
            await self.until(machine, state="paused", order_of_site=True)
        self._jobs.append(await self.job())
        self._go = go

    async def list_running(self, command: str) -> None:
        """The job that was running when the site was paused; none once it has ended."""
        running, waiting = self._jobs[-2:]
        assert running.id in await self.said(command)
        self._go.touch()
        await self.ended(running)
        assert running.id not in await self.said(command)
        assert await self.is_in(waiting, JobState.WAITING)

    async def resume_site(self, command: str) -> None:
        """The job that waited runs."""
        await self.said(command)
        await self.ended(self._jobs[-1])

    async def drain(self, command: str) -> None:
        """The job that runs is not stopped, and the agent exits after its end."""
        job, go = await self._running_on_one()
        await self.said(command)
        await self.until(self.one, state="draining")
        assert await self.is_in(job, JobState.RUNNING)
        go.touch()
        assert await asyncio.wait_for(self.one.agent.wait(), WITHIN_S) == 0
        ended = await self.record(job)
        assert (ended.state, ended.stop) == (JobState.ENDED, None)
        assert ended.outcome is not None
        assert ended.outcome.exit_code == 0

    async def resume(self, command: str) -> None:
        """The order is gone."""
        await self.said(command)
        assert (await self.row(self.one)).get("order") is None

    async def stop_worker(self, command: str) -> None:
        """The job is stopped, and the agent exits. Without Airflow, no user code was recorded: the job waits again."""
        job, _ = await self._running_on_one()
        await self.said(command)
        assert await asyncio.wait_for(self.one.agent.wait(), WITHIN_S) == 0
        assert await self.is_in(job, JobState.WAITING)
        await self.said(f"edge-relay jobs cancel {job.id} --reason 'not of the next section'")
        await self.said(f"edge-relay workers resume {self.one.name} --reason 'the press is clear'")
        await self.run_agents("")

    async def why_task(self, command: str) -> None:
        """A job that waits at a queue without a worker."""
        self._jobs.append(await self.job("gpu"))
        self._places["JOB"] = self._jobs[-1].id
        assert "no worker" in (await self.said(command)).lower()

    async def why_job(self, command: str) -> None:
        """The same answer."""
        assert "no worker" in (await self.said(command)).lower()

    async def audit(self, command: str) -> None:
        """What was done above, with the reason."""
        said = await self.said(command)
        assert "no power at the weekend" in said
        assert "operator standalone" in said

    async def audit_of_worker(self, command: str) -> None:
        """What concerns the worker itself."""
        said = await self.said(command)
        assert "the press jams" in said
        assert "no power at the weekend" not in said

    async def cancel_dry(self, command: str) -> None:
        """The jobs of the run that have not ended, and nothing is changed."""
        running, _ = await self.running()
        assert "Would cancel 2 jobs" in await self.said(command)
        assert await self.is_in(running, JobState.RUNNING)

    async def cancel(self, command: str) -> None:
        """The waiting job ends, the running one is stopped."""
        await self.said(command)
        for job in self._jobs[-2:]:
            await self.ended(job)

    async def list_dead(self, command: str) -> None:
        """The reason of the last release is shown."""
        parked = await self.parked("press")
        self._places["JOB"] = parked.id
        self._jobs.append(parked)

        async def is_listed() -> bool:
            said = await self.said(command)
            return parked.id in said and "no room for it" in said

        await eventually(is_listed, timeout_s=WITHIN_S, what="the parked job")

    async def show_job(self, command: str) -> None:
        """It has the reason."""
        assert "no room for it" in await self.said(command)

    async def redrive(self, command: str) -> None:
        """The job waits again."""
        await self.said(command)
        assert (await self.record(self._jobs[-1])).parked is None

    async def purge(self, command: str) -> None:
        """Parked jobs of the queue end; the one that was redriven stays."""
        gone = await self.parked("press")
        await eventually(lambda: self._is_listed_dead(gone), timeout_s=WITHIN_S)
        said = await self.said(command)
        assert "1 parked job" in said
        assert (await self.record(gone)).state is JobState.ENDED
        assert (await self.record(self._jobs[-1])).state is JobState.WAITING

    async def pause_queue(self, command: str) -> None:
        """Nobody gets a job of it, though a worker serves it, and `why` says so."""
        await self.said(command)
        await self.said(f"edge-relay workers queues {self.other.name} --add press --reason 'serves the press, too'")
        await self.until(self.other, queues=["default", "press"])
        assert await self.is_in(self._jobs[-1], JobState.WAITING)
        said = await self.said(f"edge-relay why --job {self._jobs[-1].id}")
        assert "the DAG reads the wrong register" in " ".join(said.split())  # a long answer is wrapped

    async def show_queue(self, command: str) -> None:
        """It shows the order."""
        assert "the DAG reads the wrong register" in await self.said(command)

    async def resume_queue(self, command: str) -> None:
        """The job that waited runs."""
        await self.said(command)
        await self.ended(self._jobs[-1])

    async def revoke(self, command: str) -> None:
        """The agent is refused, and ends."""
        await self.said(command)
        await eventually(lambda: self.one.logged("credential_revoked"), timeout_s=WITHIN_S, what="a refusal")
        assert (await self.row(self.one))["state"] == "revoked"

    async def list_enroll_tokens(self, command: str) -> None:
        """The token of the first section."""
        assert "plant-7" in await self.said(command)
        [row] = [row for row in (await self.json(command))["items"] if row["site"] == "plant-7"]
        self._places["TOKEN_ID"] = row["id"]

    async def revoke_token(self, command: str) -> None:
        """It is refused."""
        assert "is revoked" in await self.said(command)

    async def rotate(self, command: str) -> None:
        """The machine that is left has a new secret, and the audit says so."""
        before = (self.other.state / "worker.json").read_text()
        await self.said(command)
        await eventually(lambda: self.other.logged("secret_rotated"), timeout_s=WITHIN_S, what="a rotation")
        assert (self.other.state / "worker.json").read_text() != before
        assert "credential-rotated" in await self.said(f"edge-relay audit --target {self.other.name}")
        await self.until(self.other, state="online")

    async def remove(self, command: str) -> None:
        """It is in no list."""
        await self.said(command)
        assert self.one.name not in await self.said("edge-relay workers list")

    async def create_access_token(self, command: str) -> None:
        """It reads its site, and changes nothing."""
        self._directory.joinpath("ann.token").write_text((await self.said(command)).split()[0])
        ann = f"--url {self._facts.operator_url} --access-token-file {self._directory / 'ann.token'}"
        assert self.other.name in await self.said(f"edge-relay workers list {ann}")
        err = io.StringIO()
        words = f"workers pause {self.other.name} --reason x {ann}"
        with contextlib.redirect_stderr(err):
            assert await asyncio.to_thread(main, shlex.split(words)) == 1
        assert "forbidden" in err.getvalue()

    async def list_access_tokens(self, command: str) -> None:
        """It has role and scope."""
        assert "sites plant-7" in await self.said(command)

    def _placed(self, command: str) -> str:
        for place, here in self._places.items():
            command = command.replace(place, here)
        return command

    async def _running_on_one(self) -> tuple[Job, Path]:
        """A job on the first machine: the other one is paused while it is granted."""
        await self.said(f"edge-relay workers pause {self.other.name} --reason 'only the first machine'")
        await self.until(self.other, state="paused")
        found = await self.running()
        await self.said(f"edge-relay workers resume {self.other.name} --reason 'both machines'")
        assert (await self.record(found[0])).holder.worker == self.one.name  # type: ignore[union-attr]  # it runs
        return found

    async def _is_listed_dead(self, job: Job) -> bool:
        return job.id in await self.said("edge-relay dead list")


@asynccontextmanager
async def operated_fleet(directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fleet]:
    """A relay without workers, and two machines that have not enrolled."""
    fleet = Fleet(directory, monkeypatch)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(fleet.stop)
        await fleet.start(stack)
        yield fleet


Act: TypeAlias = Callable[[Fleet, str], Awaitable[None]]
_RUN_OF_DAG = f"--dag {DAG} --run {RUN}"
FLEET: Page[Act] = Page(
    "docs/howto/operate-the-fleet.md",
    {
        "edge-relay context add plants --url http://127.0.0.1:8444 "
        "--access-token-file /srv/edge-relay/secrets/access.token": Fleet.add_context,
        "edge-relay overview": Fleet.overview,
        "edge-relay enroll-token create --site plant-7 --queues default --uses 2": Fleet.create_token,
        "export EDGE_WORKER_CA_FILE=/etc/edge-worker/ca.pem": Fleet.trust,
        "edge-worker enroll --relay https://relay.example.com": Fleet.enroll,
        "edge-worker run": Fleet.run_agents,
        "edge-relay workers list --site plant-7": Fleet.list_workers,
        "edge-relay workers show WORKER": Fleet.show_worker,
        "edge-relay workers queues WORKER --set press --reason 'helps at the press'": Fleet.move,
        "edge-relay workers queues WORKER --as-enrolled --reason 'the press has caught up'": Fleet.move_back,
        "edge-relay workers slots WORKER --set 8 --reason 'more memory'": Fleet.more_slots,
        "edge-relay workers slots WORKER --set default --reason 'back to the setting of the machine'": Fleet.own_slots,
        "edge-relay workers labels WORKER --set vendor=acme --set line=3 --reason 'inventory'": Fleet.label,
        "edge-relay workers list --label vendor=acme": Fleet.find_by_label,
        "edge-relay workers pause --label vendor=acme --reason 'driver update' --dry-run": Fleet.pause_dry,
        "edge-relay workers pause --label vendor=acme --until 'tomorrow 8:00' "
        "--reason 'driver update'": Fleet.pause_by_label,
        "edge-relay workers resume --label vendor=acme --reason 'drivers are updated'": Fleet.resume_by_label,
        "edge-relay sites pause plant-7 --until 60h --reason 'no power at the weekend'": Fleet.pause_site,
        "edge-relay jobs list --site plant-7 --state running": Fleet.list_running,
        "edge-relay sites resume plant-7 --reason 'the power is back already'": Fleet.resume_site,
        "edge-relay workers drain WORKER --reason 'new disk'": Fleet.drain,
        "edge-relay workers resume WORKER --reason 'the disk is in'": Fleet.resume,
        "edge-relay workers stop WORKER --reason 'the press jams'": Fleet.stop_worker,
        f"edge-relay why {DAG} {RUN} {TASK}": Fleet.why_task,
        "edge-relay why --job JOB": Fleet.why_job,
        "edge-relay audit --since 14h": Fleet.audit,
        "edge-relay audit --since 14h --kind site": Fleet.audit,
        "edge-relay audit --since 14h --target WORKER": Fleet.audit_of_worker,
        f"edge-relay jobs cancel {_RUN_OF_DAG} --reason 'wrong input' --dry-run": Fleet.cancel_dry,
        f"edge-relay jobs cancel {_RUN_OF_DAG} --reason 'wrong input'": Fleet.cancel,
        "edge-relay dead list": Fleet.list_dead,
        "edge-relay jobs show JOB": Fleet.show_job,
        "edge-relay dead redrive JOB --reason 'the worker has room again'": Fleet.redrive,
        "edge-relay dead purge --queue press --reason 'no longer needed'": Fleet.purge,
        "edge-relay queues pause press --until 18:00 --reason 'the DAG reads the wrong register'": Fleet.pause_queue,
        "edge-relay queues show press": Fleet.show_queue,
        "edge-relay queues resume press --reason 'the DAG is fixed'": Fleet.resume_queue,
        "edge-relay workers revoke WORKER --reason 'stolen at plant 7'": Fleet.revoke,
        "edge-relay tokens list --kind enroll": Fleet.list_enroll_tokens,
        "edge-relay tokens revoke TOKEN_ID --reason 'was on the stolen machine'": Fleet.revoke_token,
        "edge-relay workers rotate --site plant-7 --reason 'a machine was stolen there'": Fleet.rotate,
        "edge-relay workers remove WORKER --reason 'stolen'": Fleet.remove,
        "edge-relay tokens create --name ann --role viewer --sites plant-7 --ttl 90d "
        "--reason 'plans the shifts of plant 7'": Fleet.create_access_token,
        "edge-relay tokens list --kind access": Fleet.list_access_tokens,
    },
)
