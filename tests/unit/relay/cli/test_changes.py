"""What commands change, by an API of the contract's models."""

import json

import pytest

from edge_relay.cli.output import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from edge_schemas.admin import rows
from edge_schemas.admin.actions import ActionFailure
from edge_schemas.wire import routes
from support.operators.contract_api import JOB, FakeOperators, job_row, queue_row, worker_row
from unit.relay.cli.conftest import Run

JOB2 = JOB.replace("0", "f")
Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("words", "path", "action", "targets"),
    [
        (("workers", "pause", "a", "b"), routes.ADMIN_WORKER_ACTIONS, {"do": "pause"}, {"workers": ["a", "b"]}),
        (("workers", "resume", "--all"), routes.ADMIN_WORKER_ACTIONS, {"do": "resume"}, {"all": True}),
        (
            ("workers", "drain", "--site", "plant-7", "--state", "online", "--until", "2099-12-01T08:00Z"),
            routes.ADMIN_WORKER_ACTIONS,
            {"do": "drain", "until": "2099-12-01T08:00:00Z"},
            {"where": {"site": "plant-7", "state": "online"}},
        ),
        (
            ("workers", "queues", "a", "--add", "x,y", "--remove", "z"),
            routes.ADMIN_WORKER_ACTIONS,
            {"do": "set-queues", "add": ["x", "y"], "remove": ["z"]},
            {"workers": ["a"]},
        ),
        (
            ("workers", "slots", "a", "--set", "default"),
            routes.ADMIN_WORKER_ACTIONS,
            {"do": "set-slots", "slots": None},
            {"workers": ["a"]},
        ),
        (
            ("workers", "labels", "a", "--set", "line=4", "--remove", "old"),
            routes.ADMIN_WORKER_ACTIONS,
            {"do": "set-labels", "set": {"line": "4"}, "remove": ["old"]},
            {"workers": ["a"]},
        ),
        (("workers", "rotate", "a"), routes.ADMIN_WORKER_ACTIONS, {"do": "rotate"}, {"workers": ["a"]}),
        (("workers", "revoke", "a"), routes.ADMIN_WORKER_ACTIONS, {"do": "revoke"}, {"workers": ["a"]}),
        (("workers", "remove", "a"), routes.ADMIN_WORKER_ACTIONS, {"do": "remove"}, {"workers": ["a"]}),
        (
            ("workers", "resolve", "a", "--keep", "newer"),
            routes.ADMIN_WORKER_ACTIONS,
            {"do": "resolve", "keep": "newer"},
            {"workers": ["a"]},
        ),
        (("sites", "stop", "s"), routes.ADMIN_SITE_ACTIONS, {"do": "stop"}, {"sites": ["s"]}),
        (
            ("queues", "pause", "Größe 1", "--team", "t"),
            routes.ADMIN_QUEUE_ACTIONS,
            {"do": "pause"},
            {"queues": [{"queue": "Größe 1", "team": "t"}]},
        ),
        (
            ("queues", "set", "q", "--tolerance", "12h", "--kinds", "default"),
            routes.ADMIN_QUEUE_ACTIONS,
            {"do": "set", "tolerance_s": 43200.0, "kinds": None},
            {"queues": [{"queue": "q"}]},
        ),
        (("jobs", "cancel", JOB, JOB2), routes.ADMIN_JOB_ACTIONS, {"do": "cancel"}, {"jobs": [JOB, JOB2]}),
        (
            ("jobs", "cancel", "--dag", "d", "--run", "r"),
            routes.ADMIN_JOB_ACTIONS,
            {"do": "cancel"},
            {"where": {"dag_id": "d", "run_id": "r"}},
        ),
        (("dead", "redrive", "--all"), routes.ADMIN_JOB_ACTIONS, {"do": "redrive"}, {"where": {"parked": True}}),
        (
            ("dead", "purge", "--queue", "q"),
            routes.ADMIN_JOB_ACTIONS,
            {"do": "purge"},
            {"where": {"queue": "q", "parked": True}},
        ),
    ],
)
def test_what_a_change_sends(
    words: tuple[str, ...],
    path: str,
    action: dict[str, object],
    targets: dict[str, object],
    *,
    operators: FakeOperators,
    run: Run,
    capsys: Capture,
) -> None:
    operators.lists[routes.ADMIN_WORKERS] = [worker_row("a")]
    operators.lists[routes.ADMIN_JOBS] = [job_row()]
    assert run(*words, "--reason", "new press") == EXIT_OK
    assert operators.posted == [(path, {"action": action, "reason": "new press", "dry_run": False, **targets})]
    assert ": 1 " in (said := capsys.readouterr().out) or ": 2 " in said


@pytest.mark.parametrize(
    "words",
    [
        ("workers", "pause", "a"),
        ("workers", "pause", "--reason", "x"),
        ("workers", "pause", "a", "--all", "--reason", "x"),
        ("workers", "pause", "a", "--site", "s", "--reason", "x"),
        ("workers", "pause", "a", "--reason", ""),
        ("workers", "pause", "NOT A NAME", "--reason", "x"),
        ("workers", "pause", "a", "--until", "yesterday", "--reason", "x"),
        ("workers", "pause", "a", "--until", "2020-01-01", "--reason", "x"),
        ("workers", "queues", "a", "--reason", "x"),
        ("workers", "labels", "a", "--reason", "x"),
        ("workers", "slots", "a", "--set", "99999", "--reason", "x"),
        ("sites", "drain", "--reason", "x"),
        ("queues", "set", "q", "--reason", "x"),
        ("queues", "set", "q", "--kinds", "tea", "--reason", "x"),
        ("jobs", "cancel", "--reason", "x"),
        ("jobs", "cancel", "no-id", "--reason", "x"),
        ("dead", "purge", "--reason", "x"),
        ("tokens", "list", "--watch"),
        ("workers", "list", "--watch"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(
    words: tuple[str, ...], operators: FakeOperators, run: Run, capsys: Capture
) -> None:
    try:
        status = run(*words)
    except SystemExit as ended:
        status = int(str(ended.code))
    assert status == EXIT_USAGE
    assert capsys.readouterr().err
    assert not operators.posted


def test_a_dry_run_changes_nothing(operators: FakeOperators, run: Run, capsys: Capture) -> None:
    operators.unchanged = {"c"}
    assert run("workers", "pause", "a", "b", "c", "--reason", "x", "--dry-run") == EXIT_OK
    assert [body["dry_run"] for _, body in operators.posted] == [True]
    said = capsys.readouterr().out
    assert "Would pause: 2 workers (a, b)." in said or "Would pause 2 workers (a, b)." in said
    assert "Already so: 1 worker." in said


def test_a_change_that_failed_for_some_names_them(operators: FakeOperators, run: Run, capsys: Capture) -> None:
    operators.failures["b"] = ActionFailure(target="b", code="not_found", detail="there is no such worker")
    assert run("workers", "pause", "a", "b", "--reason", "x") == EXIT_FAILED
    said = capsys.readouterr()
    assert "1 worker (a)" in said.out
    assert "1 worker could not be changed:\n  b: there is no such worker (not_found)" in said.err
    assert run("workers", "pause", "a", "b", "--reason", "x", "--json") == EXIT_FAILED
    assert json.loads(capsys.readouterr().out)["failures"][0]["target"] == "b"


def test_a_filter_that_matches_nothing_is_a_failure(operators: FakeOperators, run: Run, capsys: Capture) -> None:
    assert run("workers", "pause", "--site", "palnt-7", "--reason", "x") == EXIT_FAILED
    assert "no worker matches" in capsys.readouterr().err


def test_many_names_are_sent_in_parts(operators: FakeOperators, run: Run, capsys: Capture) -> None:
    names = [f"w-{i}" for i in range(2500)]
    assert run("workers", "pause", *names, "--reason", "x") == EXIT_OK
    assert [len(body["workers"]) for _, body in operators.posted] == [1000, 1000, 500]
    assert "2,500 workers" in capsys.readouterr().out


def test_all_sites_and_all_queues_are_read_first(operators: FakeOperators, run: Run) -> None:
    operators.lists[routes.ADMIN_SITES] = [
        rows.SiteRow(
            site=f"s-{i}", state=rows.SiteState.ONLINE, workers=1, online=1, offline=0, paused=0, slots=1, running=0
        )
        for i in range(600)
    ]
    operators.lists[routes.ADMIN_QUEUES] = [queue_row("q"), queue_row("q", team="t")]
    assert run("sites", "pause", "--all", "--reason", "x") == EXIT_OK
    assert run("queues", "pause", "--all", "--reason", "x") == EXIT_OK
    assert len(operators.posted[0][1]["sites"]) == 600
    assert operators.posted[1][1]["queues"] == [{"queue": "q"}, {"queue": "q", "team": "t"}]
