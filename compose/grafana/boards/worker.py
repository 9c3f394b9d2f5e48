"""One worker: is it in contact, which jobs does it run, and what does its machine lack?"""

from grafana.boards.dashboards import SITE_CELL, WORKER, Choice, Row, dashboard
from grafana.boards.panels import PLAIN, Column, Json, Key, Panel, Query, graph, stat, table

_WORKER = 'worker="$worker"'
_FREE = [(None, "red"), (0.05, "yellow"), (0.1, "green")]
_CONTACT = [(None, "green"), (90, "yellow"), (180, "red")]
_SKEW = [(None, "green"), (10, "yellow"), (30, "red")]


def make() -> Json:
    """The dashboard."""
    state = "worker_site_state:edge_worker_state:max"
    return dashboard(
        WORKER,
        "one worker",
        "Is the worker in contact, which jobs does it run, what does its machine lack? Choose a worker above.",
        [Choice("site", "Site", state), Choice("worker", "Worker", f'{state}{{site=~"$site"}}', several=False)],
        [
            Row("Is all well?", _summary()),
            Row("Properties", [_facts()]),
            Row("Jobs", _jobs()),
            Row("Link", _link()),
            Row("Machine", _machine()),
        ],
    )


def _figure(name: str) -> str:
    return f"max({name}{{{_WORKER}}})"


def _summary() -> list[Panel]:
    return [
        stat(
            "State",
            "Online: in contact. Offline: missed several contacts. Conflict: two agents use its credential.",
            Query(f"max by (state) (worker_site_state:edge_worker_state:max{{{_WORKER}}})", "{{state}}"),
            steps=PLAIN,
            show="name",
        ),
        stat(
            "Last contact",
            "Since the last poll arrived. A poll waits for up to 50 s; after three missed polls the worker is offline.",
            Query(f"time() - {_figure('edge_worker_last_contact_timestamp_seconds')}"),
            unit="s",
            steps=_CONTACT,
            decimals=0,
            no_value="never",
        ),
        stat(
            "Jobs running",
            "From the last report of the worker.",
            Query(f'max(edge_worker_jobs{{{_WORKER}, phase="running"}}) or vector(0)'),
        ),
        stat(
            "Slots free",
            "Jobs that it accepts now; 0 while it drains or is full.",
            Query(_figure("edge_worker_free_slots")),
        ),
        stat(
            "CPU busy",
            "Of all CPUs of the machine, for all processes.",
            Query(_figure("edge_worker_cpu_busy_ratio")),
            unit="percentunit",
            steps=[(None, "green"), (0.8, "yellow"), (0.95, "red")],
        ),
        stat(
            "Disk free",
            "On the disk of the state folder. Below its reserve (200 MiB) the worker accepts no jobs.",
            Query(f"{_figure('edge_worker_disk_free_bytes')} / {_figure('edge_worker_disk_total_bytes')}"),
            unit="percentunit",
            steps=_FREE,
        ),
        stat(
            "Clock skew",
            "Its clock minus the relay's, as an absolute value. Skew breaks TLS and the times in logs.",
            Query(f"max(abs(edge_worker_clock_skew_seconds{{{_WORKER}}}))"),
            unit="s",
            steps=_SKEW,
            decimals=1,
        ),
        stat(
            "Calls held",
            "Calls of tasks to Airflow that wait in the local gateway: the link or the centre is unreachable.",
            Query(_figure("edge_worker_held_calls")),
            steps=[(None, "green"), (1, "yellow")],
        ),
    ]


def _facts() -> Panel:
    labels = "worker, site, team, agent_version, airflow_version, python_version, proxy"
    return table(
        "Properties",
        "From its last report. The Airflow version is that of its runtime; without a runtime no task can run.",
        [
            Key("worker", "Worker"),
            Key("site", "Site", [SITE_CELL]),
            Key("team", "Team"),
            Key("agent_version", "Agent"),
            Key("airflow_version", "Airflow"),
            Key("python_version", "Python"),
            Key("proxy", "Proxy"),
        ],
        [Column("Reported", f"max by ({labels}) (edge_worker_info{{{_WORKER}}})", shown=False)],
        height=4,
    )


def _jobs() -> list[Panel]:
    return [
        graph(
            "Jobs and slots",
            "Granted: offered, not started. Finishing: the processes have ended, the outcome is on its way.",
            Query(f"max by (phase) (edge_worker_jobs{{{_WORKER}}})", "{{phase}}"),
            Query(_figure("edge_worker_slots"), "slots"),
            width=12,
        ),
        graph(
            "Log bytes not uploaded",
            "On its disk, not yet at the relay: Airflow shows these logs late. Falls once the link is back.",
            Query(_figure("edge_worker_log_lag_bytes"), "not uploaded"),
            unit="bytes",
            width=12,
        ),
    ]


def _link() -> list[Panel]:
    return [
        graph(
            "Since the last contact",
            "A sawtooth of up to a minute is normal, because polls wait. A steady rise is silence.",
            Query(f"time() - {_figure('edge_worker_last_contact_timestamp_seconds')}", "silent for"),
            unit="s",
            width=6,
            steps=[(None, "green"), (180, "red")],
        ),
        graph(
            "Link cuts per hour",
            "Times the link to the relay was lost, as the agent counts them.",
            Query(f"max(increase(edge_worker_link_cuts_total{{{_WORKER}}}[1h]))", "cuts"),
            width=6,
        ),
        graph(
            "Calls held",
            "Calls of tasks to Airflow that wait in the local gateway. They do not fail.",
            Query(_figure("edge_worker_held_calls"), "held"),
            width=6,
        ),
        graph(
            "Clock skew",
            "Its clock minus the relay's.",
            Query(_figure("edge_worker_clock_skew_seconds"), "skew"),
            unit="s",
            width=6,
            smallest=None,
        ),
    ]


def _machine() -> list[Panel]:
    return [
        graph(
            "CPU",
            "Of all CPUs of the machine, for all processes.",
            Query(_figure("edge_worker_cpu_busy_ratio"), "busy"),
            unit="percentunit",
            width=6,
            largest=1,
        ),
        graph(
            "Load",
            "Processes that run or are ready to run, over the last minute.",
            Query(_figure("edge_worker_load1"), "load"),
            width=6,
        ),
        graph(
            "Memory",
            "Of the machine.",
            Query(_figure("edge_worker_memory_used_bytes"), "used"),
            Query(_figure("edge_worker_memory_total_bytes"), "total"),
            unit="bytes",
            width=6,
        ),
        graph(
            "Disk",
            "The disk of the state folder.",
            Query(_figure("edge_worker_disk_free_bytes"), "free"),
            Query(_figure("edge_worker_disk_total_bytes"), "total"),
            unit="bytes",
            width=6,
        ),
    ]
