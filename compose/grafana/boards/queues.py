"""Queues: which jobs wait, since when, and how fast a queue empties."""

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
        "Which jobs wait, since when, which jobs run, and how fast a queue empties.",
        [Choice("team", "Team", waiting), Choice("queue", "Queue", f'{waiting}{{team=~"$team"}}')],
        [
            Row("Is all well?", _summary()),
            Row("Each queue now", [_queues()]),
            Row("Waiting", _waiting()),
            Row("Running", _running()),
            Row("Problems", _problems()),
            Row("From Airflow to the queue", _executor()),
        ],
    )


def _jobs(what: str, *, by: str | None = None) -> str:
    figure = f"team_queue:edge_queue_{what}:max{{{_QUEUE}}}"
    return f"sum({figure})" if by is None else f"sum by ({by}) ({figure})"


def _summary() -> list[Panel]:
    oldest = f"team_queue:edge_queue_oldest_job_age_seconds:max{{{_QUEUE}}}"
    tolerance = "team_queue:edge_queue_tolerance_seconds:max"
    return [
        stat(
            "Jobs waiting",
            "In NATS or held back by an executor, not yet started by a worker.",
            Query(_jobs("waiting_jobs")),
        ),
        stat(
            "Oldest job",
            "Age of the oldest job of the chosen queues.",
            Query(f"max({oldest})"),
            unit="s",
            steps=[(None, "green"), (300, "yellow"), (900, "red")],
        ),
        stat(
            "Queues beyond tolerance",
            "Queues whose oldest job has waited longer than the queue's offline_tolerance.",
            Query(f"count({oldest} > on (team, queue) {tolerance}) or vector(0)"),
            steps=NONE_IS_WELL,
        ),
        stat(
            "Jobs parked",
            "Released by workers five times. They run only after `edge-relay dead redrive`.",
            Query(_jobs("dead_jobs")),
            steps=NONE_IS_WELL,
        ),
        stat(
            "Pulls waiting",
            "Pulls at NATS for these queues. 0 while jobs wait: no worker serves the queues, or all workers are full.",
            Query(_jobs("polls_waiting")),
            steps=NONE_IS_BAD,
        ),
        stat(
            "Jobs running",
            "Started by a worker and not finished, according to the job records.",
            Query(_jobs("running_jobs")),
        ),
        stat(
            "Wait, median",
            "Half of the jobs granted recently had waited for less, from publish to grant.",
            Query(quantile(0.5, "edge_relay_queue_wait_seconds", where=_QUEUE)),
            unit="s",
            steps=[(None, "green"), (60, "yellow"), (600, "red")],
            no_value="no grants",
        ),
        stat(
            "Jobs published per minute",
            "By the executors. 0 is normal while Airflow queues no edge tasks.",
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
        "One row for each queue. Click a queue to filter by it, or to see its queued tasks in Airflow.",
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
            "If it rises, more jobs are handed out than workers start.",
            Query(f"team_queue:edge_queue_waiting_jobs:max{{{_QUEUE}}}", _LEGEND),
            stacked=True,
            links=[QUEUE_SERIES],
        ),
        graph(
            "Age of the oldest job",
            "If it rises by one second each second, no job of this queue is started.",
            Query(f"team_queue:edge_queue_oldest_job_age_seconds:max{{{_QUEUE}}}", _LEGEND),
            unit="s",
            links=[QUEUE_SERIES],
        ),
        graph(
            "Time until empty",
            "Jobs waiting, divided by the current rate of starts. Shown only while jobs are started.",
            Query(
                f"sum by (team, queue) (team_queue:edge_queue_waiting_jobs:max{{{_QUEUE}}}) / ({starts} > 0)", _LEGEND
            ),
            unit="s",
            links=[QUEUE_SERIES],
        ),
        graph(
            "Wait from hand-out to grant",
            "Of jobs granted recently.",
            Query(quantile(0.5, "edge_relay_queue_wait_seconds", where=_QUEUE), "half below"),
            Query(quantile(0.95, "edge_relay_queue_wait_seconds", where=_QUEUE), "95 % below"),
            unit="s",
        ),
        graph(
            "Granted, not yet started",
            "Offers on the way to workers. A number that does not fall means workers that cannot start the jobs.",
            Query(f"team_queue:edge_queue_granted_jobs:max{{{_QUEUE}}}", _LEGEND),
            links=[QUEUE_SERIES],
        ),
        graph(
            "Pulls waiting",
            "Requests for jobs that wait at NATS, of all relays. 0 while jobs wait: no worker polls.",
            Query(f"team_queue:edge_queue_polls_waiting:max{{{_QUEUE}}}", _LEGEND),
            links=[QUEUE_SERIES],
        ),
    ]


def _running() -> list[Panel]:
    return [
        graph(
            "Jobs running",
            "From the job records: started and not finished, including jobs of workers out of contact.",
            Query(f"team_queue:edge_queue_running_jobs:max{{{_QUEUE}}}", _LEGEND),
            stacked=True,
            links=[QUEUE_SERIES],
        ),
        graph(
            "Jobs stopping",
            "Airflow, or an operator, no longer wants them. A number that does not fall: workers out of contact.",
            Query(f"team_queue:edge_queue_stopping_jobs:max{{{_QUEUE}}}", _LEGEND),
            links=[QUEUE_SERIES],
        ),
        graph(
            "Granted, started and ended per second",
            "In a steady state all three are equal.",
            Query(rate("edge_relay_grants_total", where=_QUEUE), "granted"),
            Query(rate("edge_relay_starts_total", where=_QUEUE), "started"),
            Query(rate("edge_relay_finishes_total", where=_QUEUE), "ended"),
            unit="ops",
        ),
        graph(
            "Ends by verdict, per second",
            "The verdicts that the workers reported for the jobs that they finished.",
            Query(rate("edge_relay_finishes_total", by="verdict", where=_QUEUE), "{{verdict}}"),
            unit="ops",
            stacked=True,
        ),
        graph(
            "Run time",
            "From start to finish, of jobs that finished recently.",
            Query(quantile(0.5, "edge_relay_run_seconds", where=_QUEUE), "half below"),
            Query(quantile(0.95, "edge_relay_run_seconds", where=_QUEUE), "95 % below"),
            unit="s",
        ),
        graph(
            "From grant to start",
            "Time until the worker's confirmation arrives, including the link. Of all queues.",
            Query(quantile(0.5, "edge_relay_start_confirm_seconds"), "half below"),
            Query(quantile(0.95, "edge_relay_start_confirm_seconds"), "95 % below"),
            unit="s",
        ),
    ]


def _problems() -> list[Panel]:
    return [
        graph(
            "Jobs parked",
            "Parked after five releases. `nats stream get EDGE_DEAD --last-for SUBJECT` shows the reason.",
            Query(f"team_queue:edge_queue_dead_jobs:max{{{_QUEUE}}}", _LEGEND),
            links=[QUEUE_SERIES],
        ),
        graph(
            "Released and redelivered, per second",
            "Released: a worker rejected the job. Redelivered: an offer was lost or not confirmed in time.",
            Query(rate("edge_relay_releases_total", where=_QUEUE), "released by workers"),
            Query(rate("edge_relay_redeliveries_total", where=_QUEUE), "redelivered"),
            unit="ops",
        ),
        graph(
            "Given up, per hour",
            "Jobs whose holder was silent for longer than the tolerance, or came back without them.",
            Query("sum by (reason) (increase(edge_keeper_give_ups_total[1h]))", "{{reason}}"),
        ),
    ]


def _executor() -> list[Panel]:
    return [
        graph(
            "Published per second",
            "By all executors.",
            Query(rate("edge_executor_published_total", by="queue", where='queue=~"$queue"'), "{{queue}}"),
            unit="ops",
            stacked=True,
            links=[QUEUE_SERIES],
        ),
        graph(
            "Not published yet",
            "Jobs whose record or message is not stored in NATS yet. If many stay, NATS is unreachable or full.",
            Query("edge_executor_publish_backlog", "{{instance}}"),
        ),
        graph(
            "Held back",
            "Jobs whose message waits until a slot needs it. They are published in the order of their priority_weight.",
            Query(f"sum by (team, queue) (edge_executor_held_back_jobs{{{_QUEUE}}})", _LEGEND),
            stacked=True,
        ),
        graph(
            "Time to publish",
            "For record and message of one job, without the time for which it is held back.",
            Query(quantile(0.5, "edge_executor_publish_seconds"), "half below"),
            Query(quantile(0.99, "edge_executor_publish_seconds"), "99 % below"),
            unit="s",
        ),
        graph(
            "Reported to Airflow, per second",
            "Reports of the executors to the scheduler about its tasks.",
            Query(rate("edge_executor_reports_total", by="verb"), "{{verb}}"),
            unit="ops",
            stacked=True,
        ),
        graph(
            "Slots of the executors",
            "Open: how many more jobs the executor accepts. Queued and running: by the executor's own count.",
            Query("sum(edge_executor_open_slots)", "open"),
            Query("sum(edge_executor_queued_jobs)", "queued"),
            Query("sum(edge_executor_running_jobs)", "running"),
        ),
        graph(
            "Recovered and rejected, per hour",
            "Adopted after a restart, republished, withdrawn, expired, rejected. A few are normal.",
            Query("sum by (outcome) (increase(edge_executor_adopted_total[1h]))", "adopted: {{outcome}}"),
            Query("sum(increase(edge_executor_republished_total[1h]))", "republished"),
            Query("sum(increase(edge_executor_withdrawn_total[1h]))", "withdrawn"),
            Query("sum(increase(edge_executor_expired_total[1h]))", "expired"),
            Query("sum(increase(edge_executor_refused_total[1h]))", "rejected"),
        ),
    ]
