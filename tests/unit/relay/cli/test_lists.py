"""What commands read, from an API of the contract's models."""

import json
import subprocess
import sys
from datetime import timedelta

import pytest

from edge_relay.cli.arguments import shared
from edge_relay.cli.output import EXIT_FAILED, EXIT_OK
from edge_schemas.admin import rows
from edge_schemas.admin.access import AccessScope, AccessTokenRow, EnrollTokenRow, Role
from edge_schemas.admin.audit import Actor, ActorKind, AuditEvent, TargetKind
from edge_schemas.admin.desired import AvailabilityOrder, DesiredQueue
from edge_schemas.life.model import Holder, JobRecord, JobState
from edge_schemas.wire import routes
from edge_schemas.wire.workers import Availability, WorkerState
from support.operators.contract_api import JOB, NOW, FakeOperators, job_row, queue_row, worker_row
from unit.relay.cli.conftest import Run

Capture = pytest.CaptureFixture[str]


def test_all_pages_of_a_list_are_read_and_printed_once(operators: FakeOperators, run: Run, capsys: Capture) -> None:
    operators.lists[routes.ADMIN_WORKERS] = [worker_row(f"plant-7-{i:04}") for i in range(1203)]
    assert run("workers", "list") == EXIT_OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("WORKER ")
    assert [line.split()[0] for line in lines[1:]] == [f"plant-7-{i:04}" for i in range(1203)]
    assert len(operators.asked) == 3
    assert run("workers", "list", "--json") == EXIT_OK
    document = json.loads(capsys.readouterr().out)
    assert (len(document["items"]), document["next"], document["total"]) == (1203, None, 1203)


def test_a_limit_reads_no_more_than_it_shows(operators: FakeOperators, run: Run, capsys: Capture) -> None:
    operators.lists[routes.ADMIN_WORKERS] = [worker_row(f"plant-7-{i:04}") for i in range(1203)]
    assert (
        run("workers", "list", "--limit", "2", "--site", "plant-7", "--text", "x y", "--sort", "running", "--reverse")
        == EXIT_OK
    )
    assert "2 of 1203 are shown" in capsys.readouterr().out
    [(_, _, query)] = operators.asked
    assert query == {"site": "plant-7", "text": "x y", "sort": "-running", "limit": "2"}


def test_a_worker_row_tells_what_is_wrong(operators: FakeOperators, run: Run, capsys: Capture) -> None:
    order = AvailabilityOrder(
        availability=Availability.PAUSED, reason="new press", by="ann", since=NOW, until=NOW + timedelta(hours=3)
    )
    operators.lists[routes.ADMIN_WORKERS] = [
        worker_row("a", state=WorkerState.PAUSED, order=order, order_of_site=True, labels={"line": "4"}),
        worker_row("b", state=WorkerState.CONFLICT, conflict=("host-1 (10.0.0.1)", "host-2 (10.0.0.2)")),
        worker_row("c", state=WorkerState.UNHEALTHY, no_jobs_reason="the disk is \x1b[31mfull", applied_version=0),
    ]
    assert run("workers", "list") == EXIT_OK
    said = capsys.readouterr().out
    assert "site paused by ann until" in said
    assert ": new press" in said
    assert "line=4" in said
    assert "host-1 (10.0.0.1) and host-2 (10.0.0.2)" in said
    assert "workers resolve b --keep older" in said
    assert "c accepts no jobs: the disk is ?[31mfull" in said
    assert "has not applied the newest settings yet" in said


def test_an_empty_list_says_what_to_do(operators: FakeOperators, run: Run, capsys: Capture) -> None:
    operators.lists[routes.ADMIN_WORKERS] = []
    assert run("workers", "list") == EXIT_OK
    assert "'edge-relay enroll-token create'" in capsys.readouterr().out


def test_every_list_and_every_detail_can_be_shown(operators: FakeOperators, run: Run, capsys: Capture) -> None:
    event = AuditEvent(
        at=NOW,
        action="worker-paused",
        target_kind=TargetKind.WORKER,
        target="a",
        actor=Actor(kind=ActorKind.OPERATOR, name="ann", address="10.1.1.1"),
        reason="new press",
        before={"queues": ["x"], "same": 1},
        after={"queues": ["x", "y"], "same": 1},
    )
    site = rows.SiteRow(
        site="s", state=rows.SiteState.OFFLINE, workers=3, online=0, offline=3, paused=0, slots=6, running=0,
        lost_together=3,
    )  # fmt: skip
    record = JobRecord(
        id=JOB,
        queue="q",
        state=JobState.RUNNING,
        created_at=NOW,
        holder=Holder(worker="a", incarnation=1, started_at=NOW),
    )
    access = AccessTokenRow(
        id="0123456789ab", name="ann", role=Role.OPERATOR, scope=AccessScope(sites=("s",)), created_at=NOW
    )
    enroll = EnrollTokenRow(id="ba9876543210", site="s", queues=("q",), uses=5, used=1, expires_at=NOW)
    job = rows.WorkerJob(job=JOB, phase="running", task="d.t")  # type: ignore[arg-type]  # pydantic converts it
    operators.lists = {
        routes.ADMIN_SITES: [site],
        routes.ADMIN_QUEUES: [queue_row("q", in_per_minute=(0, 4, 8), settings=DesiredQueue(tolerance_s=7200))],
        routes.ADMIN_JOBS: [job_row()],
        routes.ADMIN_AUDIT: [event],
        routes.ADMIN_ACCESS_TOKENS: [access],
        routes.ADMIN_ENROLL_TOKENS: [enroll],
    }
    operators.documents = {
        routes.ADMIN_OVERVIEW: rows.Overview(
            workers={WorkerState.ONLINE: 3}, sites={}, slots=12, running=3, waiting=4, held_back=0, dead=1,
            attention=(rows.Attention(code="site-offline", severity="error", text="s is offline", view="sites"),),
            next_steps=(rows.NextStep(code="enrol", text="Enrol a worker", command="edge-worker enroll"),), as_of=NOW,
        ),
        "/v1/admin/workers/a": rows.WorkerDetail(
            row=worker_row("a"), jobs=(job,), history=(event,), missing=("no runtime: edge-worker runtime install",),
            as_of=NOW,
        ),
        f"/v1/admin/jobs/{JOB}": rows.JobDetail(
            row=job_row(), record=record, timeline=(rows.JobMoment(at=NOW, what="granted", worker="a"),), as_of=NOW,
        ),
    }  # fmt: skip
    for words, facts in {
        ("sites", "list"): ("offline", "uplink lost: 3 workers vanished together"),
        ("queues", "list"): ("▁▅█", "active"),
        ("queues", "show", "q"): ("tolerance", "2 h", "the executor's setting"),
        ("jobs", "list"): (JOB, "parked", "d.t"),
        ("jobs", "show", JOB): ("running", "granted, a"),
        ("dead", "list"): ("released 5 times",),
        ("audit",): ("worker-paused", "operator ann", "queues: x → x,y", "10.1.1.1"),
        ("tokens", "list"): ("operator", "sites s", "1 of 5", "expired"),
        ("overview",): ("3 online", "3 of 12 are busy", "s is offline", "edge-worker enroll"),
        ("workers", "show", "a"): ("plant-7", "no runtime", "worker-paused a by operator ann: new press", JOB),
    }.items():
        assert run(*words) == EXIT_OK, capsys.readouterr().err
        said = capsys.readouterr().out
        assert [fact for fact in facts if fact not in said] == [], said
        assert run(*words, "--json") == EXIT_OK
        assert json.loads(capsys.readouterr().out)
        assert run(*words, "--utc") == EXIT_OK
        assert " ago" not in capsys.readouterr().out


def test_tokens_are_created_and_revoked_by_id(operators: FakeOperators, run: Run, capsys: Capture) -> None:
    enroll = EnrollTokenRow(id="ba9876543210", site="s", queues=("q",), uses=5, used=1, expires_at=NOW)
    operators.lists = {routes.ADMIN_ACCESS_TOKENS: [], routes.ADMIN_ENROLL_TOKENS: [enroll]}
    words = ("--name", "ann", "--role", "operator", "--sites", "a,b", "--ttl", "never", "--reason", "new colleague")
    assert run("tokens", "create", *words) == EXIT_OK
    assert capsys.readouterr().out.startswith("era_new\nFor ann as operator, without end; its id is 0123456789ab.")
    [(_, body)] = operators.posted
    assert (body["sites"], body["ttl_s"], body["reason"]) == (["a", "b"], None, "new colleague")
    assert run("tokens", "revoke", "ba9876543210", "--reason", "left") == EXIT_OK
    assert operators.asked[-1] == ("DELETE", "/v1/admin/enroll-tokens/ba9876543210", {"reason": "left"})
    assert run("tokens", "revoke", "unknown", "--reason", "left") == EXIT_FAILED
    assert "'edge-relay tokens list' shows all" in capsys.readouterr().err


def test_an_answer_of_something_else_is_no_traceback(operators: FakeOperators, run: Run, capsys: Capture) -> None:
    operators.documents[routes.ADMIN_OVERVIEW] = worker_row("a")
    assert run("overview") == EXIT_FAILED
    assert "not what this command expects" in capsys.readouterr().err


def test_choices_are_those_of_the_contract() -> None:
    """They are repeated where a parser is built, which must not import the models."""
    assert tuple(WorkerState) == shared.WORKER_STATES
    assert tuple(rows.SiteState) == shared.SITE_STATES
    assert tuple(JobState) == shared.JOB_STATES
    assert tuple(Role) == shared.ROLES
    assert tuple(TargetKind) == shared.TARGET_KINDS


def test_help_imports_neither_models_nor_a_client() -> None:
    """Else each completion and each mistyped option takes a second."""
    slow = "{'pydantic', 'aiohttp', 'nats', 'ssl'}"
    build = "from edge_relay.cli.arguments.parser import build; build(['workers'])"
    code = f"import sys; {build}; sys.exit(str({slow} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.stderr.strip() == "set()"
