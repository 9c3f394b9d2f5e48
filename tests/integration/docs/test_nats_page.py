"""Each `nats` command of the docs works for the NATS user that it is meant for, and an operator may do no more."""

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from edge_broker import subjects
from edge_broker.layout import ensure_consumer
from edge_broker.permissions import ADMIN, OPERATOR
from edge_schemas.wire.jobs import JobKind
from support.nats.nats_cli import Backup, Cli, command_line
from support.nats.queue_scene import BUSY, LOG, UNSERVED, Scene, queue_scene
from support.nats.server import eventually
from support.relay.agents import agent, publish, pulling
from support.relay.edge import running_edge

DOCS = Path(__file__).parents[3] / "docs"
QUEUE = "gpu_2Elarge"
STREAMS = {
    *("EDGE_AUDIT", "EDGE_BUNDLES", "EDGE_DEAD", "EDGE_JOBS", "EDGE_LOGS"),
    *(
        "KV_edge_access",
        "KV_edge_accesses",
        "KV_edge_bundles",
        "KV_edge_desired",
        "KV_edge_jobs",
        "KV_edge_jobs_ended",
        "KV_edge_jobs_ended_index",
        "KV_edge_policies",
        "KV_edge_workers",
    ),
}


def commands(page: Path) -> list[str]:
    """Every `nats` command of a page, in its blocks and in its sentences, without what its output is piped into."""
    text = page.read_text()
    blocks = [block.replace("\\\n", " ").strip() for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]
    sentences = re.findall(r"`(nats [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    found = [re.sub(r"\s+", " ", command.partition(" | ")[0]) for command in blocks + sentences]
    return [command for command in found if command.startswith("nats ")]


class Page:
    """What each command asks for, and what it must be told in the scene."""

    def __init__(self, scene: Scene, operator: Cli, admin: Cli) -> None:
        self.scene = scene
        self.operator = operator
        self.admin = admin
        self._backups: dict[str, Backup] = {}

    async def context_add(self) -> None:
        assert self.operator.client.is_connected

    async def consumer_report(self) -> None:
        await self.operator.stream("EDGE_JOBS")
        found = {
            one["name"]: one for one in (await self.operator.api("CONSUMER.LIST.EDGE_JOBS", {"offset": 0}))["consumers"]
        }
        assert (found[QUEUE]["num_pending"], found[QUEUE]["num_ack_pending"]) == (3, 0)
        assert (found[BUSY]["num_pending"], found[BUSY]["num_ack_pending"]) == (0, 1)

    async def all_subjects(self) -> None:
        waiting = (self.scene.granted, *self.scene.waiting)
        expected = {subjects.job_subject(job.team, job.queue, job.kind, job.id) for job in waiting}
        assert set(await self.operator.subjects("EDGE_JOBS")) == expected

    async def subjects_of_a_queue(self) -> None:
        found = await self.operator.subjects("EDGE_JOBS", f"edge.jobs.-.{QUEUE}.*")
        assert set(found) == {subjects.job_subject(None, UNSERVED, JobKind.TASK, job.id) for job in self.scene.waiting}

    async def stream_state(self) -> None:
        state = (await self.operator.api("STREAM.INFO.EDGE_JOBS"))["state"]
        assert state["messages"] == 4
        age = datetime.now(UTC) - datetime.fromisoformat(state["first_ts"])
        assert timedelta() <= age < timedelta(minutes=1)

    async def all_records(self) -> None:
        found = await self.operator.read("KV_edge_jobs", "$KV.edge_jobs.>", deliver_policy="last_per_subject")
        states = {record["id"]: record["state"] for record in map(orjson.loads, filter(None, found))}
        assert states[self.scene.running.id] == "running"
        assert self.scene.ended.id not in states
        waiting = {self.scene.parked.id, self.scene.granted.id, *(job.id for job in self.scene.waiting)}
        assert {job for job, state in states.items() if state == "waiting"} == waiting

    async def waiting_job(self) -> None:
        job = self.scene.waiting[0]
        message = await self.operator.last_for("EDGE_JOBS", f"edge.jobs.-.{QUEUE}.{job.id}")
        assert orjson.loads(base64.b64decode(message["data"]))["work"]["task"]["dag_id"] == "pumps"

    async def consumer_info(self) -> None:
        info = await self.operator.api(f"CONSUMER.INFO.EDGE_JOBS.{QUEUE}")
        assert (info["num_pending"], info["num_waiting"]) == (3, 0)

    async def consumer_graph(self) -> None:
        info = await self.operator.api(f"CONSUMER.INFO.EDGE_JOBS.{BUSY}")
        assert info["delivered"]["consumer_seq"] > info["ack_floor"]["consumer_seq"] > 0

    async def record(self) -> None:
        record = await self.operator.kv_get("edge_jobs", self.scene.running.id)
        assert (record["state"], record["holder"]["worker"]) == ("running", self.scene.worker)

    async def ended_record(self) -> None:
        record = await self.operator.kv_get("edge_jobs_ended", self.scene.ended.id)
        assert record["state"] == "ended"
        assert record["outcome"]["verdict"]

    async def list_records(self) -> None:
        async with self.operator.watched("edge_jobs", "last_per_subject", headers_only=True) as found:
            assert f"$KV.edge_jobs.{self.scene.running.id}" in {one.subject for one in found}

    async def watch_records(self) -> None:
        async with self.operator.watched("edge_jobs", "new") as found:
            job = await publish(self.scene.edge.broker)
            await eventually(lambda: job.id in " ".join(one.subject for one in found), what="the new record")

    async def published_jobs(self) -> None:
        subscription = await self.operator.client.subscribe("edge.jobs.>")
        await self.operator.client.flush()
        job = await publish(self.scene.edge.broker)
        assert (await subscription.next_msg(timeout=5)).subject.endswith(job.id)
        await subscription.unsubscribe()

    async def log(self) -> None:
        found = await self.operator.read("EDGE_LOGS", f"edge.logs.*.*.{self.scene.running.id}", deliver_policy="all")
        assert tuple(found) == LOG

    async def parked(self) -> None:
        assert set(await self.operator.subjects("EDGE_DEAD")) == {
            subjects.dead_subject(None, BUSY, self.scene.parked.id)
        }

    async def why_parked(self) -> None:
        message = await self.operator.last_for("EDGE_DEAD", f"edge.dead.-.default.{self.scene.parked.id}")
        assert "no room for it" in orjson.loads(base64.b64decode(message["data"]))["parked"]

    async def workers(self) -> None:
        policy = "last_per_subject"
        async with self.operator.watched("edge_workers", policy, headers_only=True) as found:
            assert f"$KV.edge_workers.{self.scene.worker}" in {one.subject for one in found}

    async def worker(self) -> None:
        entry = await self.operator.kv_get("edge_workers", self.scene.worker)
        assert [job["id"] for job in entry["jobs"]] == [self.scene.running.id]
        assert entry["agent"]["last_poll_at"]

    async def audit(self) -> None:
        since = (datetime.now(UTC) - timedelta(days=1)).isoformat().replace("+00:00", "Z")
        start = {"deliver_policy": "by_start_time", "opt_start_time": since}
        found = await self.operator.read("EDGE_AUDIT", "edge.audit.>", **start)
        actions = [orjson.loads(one)["action"] for one in found]
        assert actions == ["enroll-token-created", "worker-enrolled", "job-parked"]

    async def audit_by_page(self) -> None:
        assert len(await self.operator.pages("EDGE_AUDIT")) == 3

    async def stream_report(self) -> None:
        found = {one["config"]["name"] for one in (await self.operator.api("STREAM.LIST", {"offset": 0}))["streams"]}
        assert found == STREAMS

    async def stream_info(self) -> None:
        assert (await self.operator.api("STREAM.INFO.EDGE_JOBS"))["config"]["max_bytes"] == 256 << 20

    async def account_info(self) -> None:
        answer = await self.operator.client.request("$SYS.REQ.USER.INFO", timeout=5)
        assert orjson.loads(answer.data)["data"]["user"] == OPERATOR
        assert (await self.operator.api("INFO"))["streams"] == len(STREAMS)

    async def pause(self) -> None:
        until = (datetime.now(UTC) + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
        await self._pause({"pause_until": until}, {"Nats-Required-Api-Level": "1"})
        assert (await self.operator.api(f"CONSUMER.INFO.EDGE_JOBS.{BUSY}"))["paused"]

    async def resume(self) -> None:
        await self._pause(None, None)
        assert not (await self.operator.api(f"CONSUMER.INFO.EDGE_JOBS.{BUSY}")).get("paused")

    async def _pause(self, body: object, headers: dict[str, str] | None) -> None:
        await self.operator.api(f"CONSUMER.INFO.EDGE_JOBS.{BUSY}")
        await self.operator.api("INFO")
        await self.operator.api(f"CONSUMER.PAUSE.EDGE_JOBS.{BUSY}", body, headers)

    async def purge_queue(self) -> None:
        assert await self._purge("EDGE_JOBS", f"edge.jobs.-.{QUEUE}.*") == len(self.scene.waiting)

    async def purge_history(self) -> None:
        assert await self._purge("EDGE_DEAD", f"edge.dead.-.default.{self.scene.parked.id}") == 1

    async def _purge(self, stream: str, pattern: str) -> int:
        await self.operator.api(f"STREAM.INFO.{stream}")
        purged: int = (await self.operator.api(f"STREAM.PURGE.{stream}", {"filter": pattern}))["purged"]
        return purged

    async def purge_logs(self) -> None:
        await self.admin.api("STREAM.INFO.EDGE_LOGS")
        assert (await self.admin.api("STREAM.PURGE.EDGE_LOGS", {"keep": 100_000}))["purged"] == 0

    async def backup(self) -> None:
        names = [one["config"]["name"] for one in (await self.operator.api("STREAM.LIST", {"offset": 0}))["streams"]]
        self._backups = {name: await self.operator.backup(name) for name in names}
        assert set(self._backups) == STREAMS

    async def restore(self) -> None:
        """Into an account without streams, as the page says."""
        before = {name: (await self.admin.api(f"STREAM.INFO.{name}"))["state"]["messages"] for name in STREAMS}
        for name in STREAMS:
            await self.admin.api(f"STREAM.DELETE.{name}")
        for name, backup in self._backups.items():
            await self.admin.restore(name, backup)
        after = {name: (await self.admin.api(f"STREAM.INFO.{name}"))["state"]["messages"] for name in STREAMS}
        assert after == before
        record = await self.operator.kv_get("edge_jobs", self.scene.running.id)
        assert record["holder"]["worker"] == self.scene.worker


Act = Callable[[Page], Awaitable[None]]
READ_RECORDS = "nats sub --stream KV_edge_jobs --last-per-subject --terminate-at-end --raw '$KV.edge_jobs.>'"
ACTS: dict[str, Act] = {
    "nats context add edge --server nats://127.0.0.1:4222 --user operator "
    '--password "$(cat DATA_DIR/secrets/operator.password)" --select': Page.context_add,
    "nats consumer report EDGE_JOBS": Page.consumer_report,
    "nats stream subjects EDGE_JOBS": Page.all_subjects,
    "nats stream subjects EDGE_JOBS 'edge.jobs.-.gpu_2Elarge.*' --names": Page.subjects_of_a_queue,
    "nats stream subjects EDGE_JOBS 'edge.jobs.-.QUEUE.>'": Page.subjects_of_a_queue,
    "nats stream state EDGE_JOBS": Page.stream_state,
    READ_RECORDS: Page.all_records,
    "nats stream get EDGE_JOBS --last-for 'edge.jobs.-.gpu_2Elarge.JOB' --json": Page.waiting_job,
    "nats consumer info EDGE_JOBS gpu_2Elarge": Page.consumer_info,
    "nats consumer info EDGE_JOBS QUEUE": Page.consumer_info,
    "nats consumer graph EDGE_JOBS default": Page.consumer_graph,
    "nats kv get edge_jobs JOB --raw": Page.record,
    "nats kv get edge_jobs_ended JOB --raw": Page.ended_record,
    "nats sub --stream EDGE_LOGS --all --terminate-at-end --raw 'edge.logs.*.*.JOB'": Page.log,
    "nats stream subjects EDGE_DEAD --names": Page.parked,
    "nats stream get EDGE_DEAD --last-for 'edge.dead.-.default.JOB' --json": Page.why_parked,
    "nats kv ls edge_workers": Page.workers,
    "nats kv get edge_workers WORKER --raw": Page.worker,
    "nats kv get edge_workers NAME": Page.worker,
    "nats kv ls edge_jobs": Page.list_records,
    "nats sub --stream EDGE_AUDIT --since 24h --terminate-at-end --raw 'edge.audit.>'": Page.audit,
    "nats stream view EDGE_AUDIT": Page.audit_by_page,
    "nats stream report": Page.stream_report,
    "nats stream info EDGE_JOBS": Page.stream_info,
    "nats account info": Page.account_info,
    "nats kv watch edge_jobs --updates": Page.watch_records,
    "nats sub 'edge.jobs.>' --subjects-only": Page.published_jobs,
    "nats consumer pause EDGE_JOBS default 1h --force": Page.pause,
    "nats consumer resume EDGE_JOBS default --force": Page.resume,
    "nats consumer resume EDGE_JOBS QUEUE": Page.resume,
    "nats stream purge EDGE_JOBS --subject 'edge.jobs.-.gpu_2Elarge.*' --force": Page.purge_queue,
    "nats stream purge EDGE_DEAD --subject 'edge.dead.-.default.JOB' --force": Page.purge_history,
    "nats stream purge EDGE_LOGS --keep 100000": Page.purge_logs,
    "nats account backup DIRECTORY --force": Page.backup,
    "nats --context edge-admin account restore DIRECTORY": Page.restore,
}
"""In the order in which they are tried: the last ones change things."""


def test_each_command_of_the_docs_is_tried_here() -> None:
    """A command without an act above has been checked by nobody, and an act without a command is of no use."""
    assert {command for page in DOCS.rglob("*.md") for command in commands(page)} == set(ACTS)


async def test_each_command_is_answered(tmp_path: Path) -> None:
    """With the requests of the command line itself, and nothing that it sends is refused."""
    async with (
        queue_scene(tmp_path) as scene,
        command_line(scene.edge.server, OPERATOR) as operator,
        command_line(scene.edge.server, ADMIN) as admin,
    ):
        page = Page(scene, operator, admin)
        for act in dict.fromkeys(ACTS.values()):
            await act(page)
        assert await operator.refused() == set()


async def test_a_paused_queue_grants_nothing_until_it_is_resumed(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge, command_line(edge.server, OPERATOR) as operator:
        one = await agent(edge)
        await ensure_consumer(edge.broker, None, BUSY, JobKind.TASK)
        until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        await operator.api(f"CONSUMER.PAUSE.EDGE_JOBS.{BUSY}", {"pause_until": until})
        job = await publish(edge.broker, consumer=False)
        assert (await one.poll(poll_timeout_s=1)).status == 204
        waiting = asyncio.create_task(one.grants())
        await pulling(edge, BUSY)
        assert not waiting.done()
        await operator.api(f"CONSUMER.PAUSE.EDGE_JOBS.{BUSY}")
        # The server looks at pulls that waited when it is asked again, within ten seconds, or when a job is published.
        await publish(edge.broker)
        [grant] = await waiting
        assert grant["job"]["id"] == job.id


def forbidden(scene: Scene) -> dict[str, tuple[str, object]]:
    """What an operator may not do, by the request that the command line makes for it."""
    durable = {"durable_name": "mine", "ack_policy": "explicit", "filter_subject": "edge.jobs.-.default.*"}
    reading = {"ack_policy": "none", "filter_subject": "$KV.edge_access.>", "deliver_policy": "last_per_subject"}
    ours = {"name": "EDGE_JOBS", "subjects": ["edge.jobs.>"]}
    return {
        "publish a job": ("edge.jobs.-.default.x", {}),
        "write a record": (f"$KV.edge_jobs.{scene.running.id}", {}),
        "write a worker's entry": (f"$KV.edge_workers.{scene.worker}", {}),
        "write a credential": ("$KV.edge_access.access.x", {}),
        "write a log": (f"edge.logs.x.1.{scene.running.id}", {}),
        "write into the audit": ("edge.audit.job.x.job-parked", {}),
        "say that a relay is there": (subjects.RELAY_BEATS, {}),
        "take a job": ("$JS.API.CONSUMER.MSG.NEXT.EDGE_JOBS.default", {"batch": 1}),
        "confirm a job that was granted": ("$JS.ACK.EDGE_JOBS.default.1.4.4.1.0", None),
        "make a stream": ("$JS.API.STREAM.CREATE.MINE", {"name": "MINE", "subjects": ["mine"]}),
        "change a stream": ("$JS.API.STREAM.UPDATE.EDGE_JOBS", ours),
        "delete a stream": ("$JS.API.STREAM.DELETE.EDGE_AUDIT", None),
        "restore a stream": ("$JS.API.STREAM.RESTORE.MINE", {"config": {"name": "MINE"}, "state": {}}),
        "purge logs": ("$JS.API.STREAM.PURGE.EDGE_LOGS", None),
        "purge the audit": ("$JS.API.STREAM.PURGE.EDGE_AUDIT", None),
        "write an ended record": (f"$KV.edge_jobs_ended.{scene.ended.id}", {}),
        "purge records": ("$JS.API.STREAM.PURGE.KV_edge_jobs", None),
        "delete one message": ("$JS.API.STREAM.MSG.DELETE.EDGE_JOBS", {"seq": 1}),
        "make a consumer of jobs": (
            "$JS.API.CONSUMER.CREATE.EDGE_JOBS.mine.edge.jobs.-.default.*",
            {"stream_name": "EDGE_JOBS", "config": durable},
        ),
        "make a durable consumer of jobs as old programs do": (
            "$JS.API.CONSUMER.DURABLE.CREATE.EDGE_JOBS.mine",
            {"stream_name": "EDGE_JOBS", "config": durable},
        ),
        "make a passing consumer of jobs": (
            "$JS.API.CONSUMER.CREATE.EDGE_JOBS",
            {"stream_name": "EDGE_JOBS", "config": {"ack_policy": "explicit"}},
        ),
        "delete the consumer of a queue": ("$JS.API.CONSUMER.DELETE.EDGE_JOBS.default", None),
        "read a credential": ("$JS.API.STREAM.MSG.GET.KV_edge_access", {"seq": 1}),
        "read a credential from any replica": ("$JS.API.DIRECT.GET.KV_edge_access.$KV.edge_access.access.x", None),
        "list credentials": (
            "$JS.API.CONSUMER.CREATE.KV_edge_access.mine.$KV.edge_access.>",
            {"stream_name": "KV_edge_access", "config": reading},
        ),
        "change the account": ("$JS.API.ACCOUNT.PURGE.EDGE", None),
    }


async def test_what_an_operator_may_not_do_is_refused(tmp_path: Path) -> None:
    async with queue_scene(tmp_path) as scene, command_line(scene.edge.server, OPERATOR) as operator:
        before = await _state(scene)
        wishes = forbidden(scene)
        for subject, body in wishes.values():
            data = b"" if body is None else orjson.dumps(body)
            await operator.client.publish(subject, data, reply=operator.client.new_inbox())
        await eventually(lambda: len(operator.errors) >= len(wishes), what="a refusal of each")
        refused = await operator.refused()
        assert {wish for wish, (subject, _) in wishes.items() if subject.lower() not in refused} == set()
        assert await _state(scene) == before


async def test_an_operator_may_not_listen_to_everything(tmp_path: Path) -> None:
    """Neither to credentials nor to what others ask the server and are told by it."""
    async with queue_scene(tmp_path) as scene, command_line(scene.edge.server, OPERATOR) as operator:
        places = {">", "$KV.edge_access.>", "_INBOX_relay.>", "_INBOX_admin.>", "$JS.API.>", "$JS.ACK.>"}
        for place in places:
            await operator.client.subscribe(place)
        await eventually(lambda: len(operator.errors) >= len(places), what="a refusal of each")
        assert await operator.refused() == {place.lower() for place in places}


async def _state(scene: Scene) -> dict[str, tuple[int, int]]:
    """Messages and consumers of each stream."""
    infos = {name: (await scene.edge.broker.api(f"STREAM.INFO.{name}"))["state"] for name in STREAMS}
    return {name: (info["messages"], info["consumer_count"]) for name, info in infos.items()}
