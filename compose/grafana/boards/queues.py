"""Queues: what waits, since when, and how fast it drains."""

from grafana.boards.dashboards import QUEUE_CELL, QUEUE_SERIES, QUEUED_IN_AIRFLOW, QUEUES, Choice, Row, dashboard
from grafana.boards.panels import (
    NONE_IS_BAD,
    NONE_IS_WELL,
    Column,
    Json,
    Key,
    Panel,
    Query,
    graph,
    quantile,
    rate,
    stat,
    table,
)

_QUEUE = 'team=~"$team", queue=~"$queue"'
_LEGEND = "{{team}} {{queue}}"


def make() -> Json:
    """The dashboard."""
    waiting = "team_queue:edge_queue_waiting_jobs:max"
    return dashboard(
        QUEUES,
        "queues",
        "What waits, since when, what runs, and how fast it drains.",
        [Choice("team", "Team", waiting), Choice("queue", "Queue", f'{waiting}{{team=~"$team"}}')],
        [
            Row("Is all well?", _first_look()),
            Row("Each queue now", [_queues()]),
            Row("Waiting", _waiting()),
            Row("Running", _running()),
            Row("What went wrong", _trouble()),
            Row("From Airflow to the queue", _executor()),
        ],
    )


def _jobs(what: str, *, by: str | None = None) -> str:
    figure = f"team_queue:edge_queue_{what}:max{{{_QUEUE}}}"
    return f"sum({figure})" if by is None else f"sum by ({by}) ({figure})"


def _first_look() -> list[Panel]:
    oldest = f"team_queue:edge_queue_oldest_job_age_seconds:max{{{_QUEUE}}}"
    tolerance = "team_queue:edge_queue_tolerance_seconds:max"
    return [
        stat("Jobs waiting", "Published, and started by no worker yet.", Query(_jobs("waiting_jobs"))),
        stat(
            "Oldest waits for",
            "Age of the oldest job of the chosen queues.",
            Query(f"max({oldest})"),
            unit="s",
            steps=[(None, "green"), (300, "yellow"), (900, "red")],
        ),
        stat(
            "Queues too old",
            "Queues whose oldest job waits longer than the queue's offline_tolerance.",
            Query(f"count({oldest} > on (team, queue) {tolerance}) or vector(0)"),
            steps=NONE_IS_WELL,
        ),
        stat(
            "Jobs parked",
            "Given back by workers five times. They run only after `edge-relay jobs redrive`.",
            Query(_jobs("dead_jobs")),
            steps=NONE_IS_WELL,
        ),
        stat(
            "Workers asking",
            "Pulls that stand at NATS for these queues. 0 with jobs waiting: nobody serves them, or all are full.",
            Query(_jobs("polls_waiting")),
            steps=NONE_IS_BAD,
        ),
        stat("Jobs running", "Started by a worker and not ended, by the records.", Query(_jobs("running_jobs"))),
        stat(
            "Wait, median",
            "Half of the jobs handed out lately had waited for less, from publish to grant.",
            Query(quantile(0.5, "edge_relay_queue_wait_seconds", where=_QUEUE)),
            unit="s",
            steps=[(None, "green"), (60, "yellow"), (600, "red")],
            no_value="none handed out",
        ),
        stat(
            "Jobs published per minute",
            "By the executors. 0 is well when Airflow has nothing to do.",
            Query('60 * sum(rate(edge_executor_published_total{queue=~"$queue"}[$__rate_interval]))'),
            decimals=1,
            no_value="none",
        ),
    ]


def _queues() -> Panel:
    pair = "team, queue"

    def per_minute(counter: str) -> str:
        return f"60 * {rate(counter, by=pair, where=_QUEUE)}"

    return table(
        "Queues",
        "One row for each queue. Click a queue to see it alone, or its queued tasks in Airflow.",
        [Key("queue", "Queue", [QUEUE_CELL, QUEUED_IN_AIRFLOW]), Key("team", "Team")],
        [
            Column("Waiting", _jobs("waiting_jobs", by=pair)),
            Column("Oldest", _jobs("oldest_job_age_seconds", by=pair), "s", decimals=0),
            Column("Tolerance", _jobs("tolerance_seconds", by=pair), "s", decimals=0),
            Column("Granted", _jobs("granted_jobs", by=pair)),
            Column("Running", _jobs("running_jobs", by=pair)),
            Column("Stopping", _jobs("stopping_jobs", by=pair)),
            Column("Parked", _jobs("dead_jobs", by=pair), steps=NONE_IS_WELL),
            Column("Pulls waiting", _jobs("polls_waiting", by=pair)),
            Column("Starts per minute", per_minute("edge_relay_starts_total"), decimals=1),
            Column("Ends per minute", per_minute("edge_relay_finishes_total"), decimals=1),
        ],
        sort_by="Oldest",
    )


def _waiting() -> list[Panel]:
    starts = rate("edge_relay_starts_total", by="team, queue", where=_QUEUE)
    return [
        graph(
            "Jobs waiting",
            "Rising means that more is published than workers start.",
            Query(f"team_queue:edge_queue_waiting_jobs:max{{{_QUEUE}}}", _LEGEND),
            stacked=True,
            links=[QUEUE_SERIES],
        ),
        graph(
            "Age of the oldest job",
            "Rising by a second each second: nothing is taken from this queue.",
            Query(f"team_queue:edge_queue_oldest_job_age_seconds:max{{{_QUEUE}}}", _LEGEND),
            unit="s",
            links=[QUEUE_SERIES],
        ),
        graph(
            "Time until empty",
            "Jobs waiting, by how fast they are started now. Shown only while some are started.",
            Query(
                f"sum by (team, queue) (team_queue:edge_queue_waiting_jobs:max{{{_QUEUE}}}) / ({starts} > 0)", _LEGEND
            ),
            unit="s",
            links=[QUEUE_SERIES],
        ),
        graph(
            "Wait from publish to grant",
            "Of jobs handed out lately.",
            Query(quantile(0.5, "edge_relay_queue_wait_seconds", where=_QUEUE), "half below"),
            Query(quantile(0.95, "edge_relay_queue_wait_seconds", where=_QUEUE), "95 % below"),
            unit="s",
        ),
        graph(
            "Granted, not yet started",
            "Offers on their way to workers. A number that stays: workers that cannot start them.",
            Query(f"team_queue:edge_queue_granted_jobs:max{{{_QUEUE}}}", _LEGEND),
            links=[QUEUE_SERIES],
        ),
        graph(
            "Pulls waiting",
            "Requests for jobs that stand at NATS, of all relays. 0 while jobs wait: nobody asks.",
            Query(f"team_queue:edge_queue_polls_waiting:max{{{_QUEUE}}}", _LEGEND),
            links=[QUEUE_SERIES],
        ),
    ]


def _running() -> list[Panel]:
    return [
        graph(
            "Jobs running",
            "By the records: started and not ended, those of workers out of contact included.",
            Query(f"team_queue:edge_queue_running_jobs:max{{{_QUEUE}}}", _LEGEND),
            stacked=True,
            links=[QUEUE_SERIES],
        ),
        graph(
            "Jobs stopping",
            "Airflow, or an operator, no longer wants them. A number that stays belongs to workers out of contact.",
            Query(f"team_queue:edge_queue_stopping_jobs:max{{{_QUEUE}}}", _LEGEND),
            links=[QUEUE_SERIES],
        ),
        graph(
            "Granted, started and ended per second",
            "In a steady state all three are the same.",
            Query(rate("edge_relay_grants_total", where=_QUEUE), "granted"),
            Query(rate("edge_relay_starts_total", where=_QUEUE), "started"),
            Query(rate("edge_relay_finishes_total", where=_QUEUE), "ended"),
            unit="ops",
        ),
        graph(
            "Ends by verdict, per second",
            "What the workers said of the jobs they finished.",
            Query(rate("edge_relay_finishes_total", by="verdict", where=_QUEUE), "{{verdict}}"),
            unit="ops",
            stacked=True,
        ),
        graph(
            "Run time",
            "From start to finish, of jobs that ended lately.",
            Query(quantile(0.5, "edge_relay_run_seconds", where=_QUEUE), "half below"),
            Query(quantile(0.95, "edge_relay_run_seconds", where=_QUEUE), "95 % below"),
            unit="s",
        ),
        graph(
            "From grant to start",
            "How long workers take to confirm, link included. Of all queues.",
            Query(quantile(0.5, "edge_relay_start_confirm_seconds"), "half below"),
            Query(quantile(0.95, "edge_relay_start_confirm_seconds"), "95 % below"),
            unit="s",
        ),
    ]


def _trouble() -> list[Panel]:
    return [
        graph(
            "Jobs parked",
            "Put aside after five releases. Read why with `nats stream get EDGE_DEAD --last-for SUBJECT`.",
            Query(f"team_queue:edge_queue_dead_jobs:max{{{_QUEUE}}}", _LEGEND),
            links=[QUEUE_SERIES],
        ),
        graph(
            "Given back and delivered again, per second",
            "Released: a worker did not want the job. Redelivered: an offer was lost or not taken in time.",
            Query(rate("edge_relay_releases_total", where=_QUEUE), "released by workers"),
            Query(rate("edge_relay_redeliveries_total", where=_QUEUE), "redelivered"),
            unit="ops",
        ),
        graph(
            "Given up, per hour",
            "Jobs whose holder was silent beyond the tolerance, or came back without them.",
            Query("sum by (reason) (increase(edge_keeper_give_ups_total[1h]))", "{{reason}}"),
        ),
    ]


def _executor() -> list[Panel]:
    return [
        graph(
            "Published per second",
            "By the executors, all together.",
            Query(rate("edge_executor_published_total", by="queue", where='queue=~"$queue"'), "{{queue}}"),
            unit="ops",
            stacked=True,
            links=[QUEUE_SERIES],
        ),
        graph(
            "Not published yet",
            "Jobs that the scheduler queued and that are not in NATS. More than a few for long: NATS is away or full.",
            Query("edge_executor_publish_backlog", "{{instance}}"),
        ),
        graph(
            "Time to publish",
            "Record and message, per job.",
            Query(quantile(0.5, "edge_executor_publish_seconds"), "half below"),
            Query(quantile(0.99, "edge_executor_publish_seconds"), "99 % below"),
            unit="s",
        ),
        graph(
            "Reported to Airflow, per second",
            "What the executors told the scheduler of its tasks.",
            Query(rate("edge_executor_reports_total", by="verb"), "{{verb}}"),
            unit="ops",
            stacked=True,
        ),
        graph(
            "Slots of the executors",
            "Open: how many more jobs the executor would take. Queued and running: as it counts them.",
            Query("sum(edge_executor_open_slots)", "open"),
            Query("sum(edge_executor_queued_jobs)", "queued"),
            Query("sum(edge_executor_running_jobs)", "running"),
        ),
        graph(
            "Put right, per hour",
            "Adopted after a restart, published again, withdrawn, expired, refused. Single ones are normal.",
            Query("sum by (outcome) (increase(edge_executor_adopted_total[1h]))", "adopted: {{outcome}}"),
            Query("sum(increase(edge_executor_republished_total[1h]))", "published again"),
            Query("sum(increase(edge_executor_withdrawn_total[1h]))", "withdrawn"),
            Query("sum(increase(edge_executor_expired_total[1h]))", "expired"),
            Query("sum(increase(edge_executor_refused_total[1h]))", "refused"),
        ),
    ]
