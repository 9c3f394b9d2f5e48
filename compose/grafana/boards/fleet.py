"""Fleet and sites: which workers are in contact, and which have free slots."""

from grafana.boards.dashboards import FLEET, SITE_CELL, SITE_SERIES, WORKER_CELL, WORKER_SERIES, Choice, Row, dashboard
from grafana.boards.panels import NONE_IS_BAD, NONE_IS_WELL, Column, Json, Key, Panel, Query, graph, stat, table

_SITE = 'site=~"$site"'
_STATES = {
    "online": "green",
    "unhealthy": "orange",
    "paused": "purple",
    "draining": "blue",
    "offline": "red",
    "conflict": "dark-red",
    "never seen": "text",
    "revoked": "text",
}
_IN_CONTACT = "online|unhealthy|paused|draining|conflict"
_BUSY = [(None, "green"), (0.8, "yellow"), (0.95, "red")]
_FREE = [(None, "red"), (0.05, "yellow"), (0.1, "green")]


def make() -> Json:
    """The dashboard."""
    return dashboard(
        FLEET,
        "fleet and sites",
        "Are all sites and all workers in contact, and are there free slots? Start here.",
        [Choice("site", "Site", "site_state:edge_workers:max")],
        [
            Row("Is all well?", _summary()),
            Row("Sites", [_sites(), *_sites_over_time()]),
            Row("Workers", [_workers(), *_workers_over_time()]),
            Row("Alerts and versions", [_firing(), *_versions()]),
        ],
    )


def _summary() -> list[Panel]:
    offline = f'sum by (site) (site_state:edge_workers:max{{{_SITE}, state="offline"}}) > 0'
    there = f'sum by (site) (site_state:edge_workers:max{{{_SITE}, state=~"{_IN_CONTACT}"}}) > 0'
    return [
        stat(
            "Alerts firing",
            "Of all parts of Edge Relay. 0 is healthy; the table below lists the alerts.",
            Query('count(ALERTS{alertstate="firing", system="edge-relay"}) or vector(0)'),
            steps=NONE_IS_WELL,
        ),
        stat(
            "Sites offline",
            "Sites whose workers are all offline. Check what the workers share: link, proxy, power.",
            Query(f"count({offline} unless on (site) {there}) or vector(0)"),
            steps=NONE_IS_WELL,
        ),
        stat(
            "Workers online",
            "In contact now; they get jobs if they have free slots.",
            Query(_in_state("online")),
            steps=NONE_IS_BAD,
        ),
        stat(
            "Workers offline",
            "Missed several contacts in a row. Their jobs continue until the tolerance is over.",
            Query(_in_state("offline")),
            steps=NONE_IS_WELL,
        ),
        stat(
            "Workers in conflict",
            "Two agents use the same credential: a copied or a stolen state folder. Resolve the conflict.",
            Query(_in_state("conflict")),
            steps=NONE_IS_WELL,
        ),
        stat(
            "Slots in use",
            "Of the workers that are online. Near 100 % jobs wait for a free slot: add workers or slots.",
            Query(
                f"1 - sum(site:edge_worker_free_slots:sum{{{_SITE}}})"
                f" / (sum(site:edge_worker_slots:sum{{{_SITE}}}) > 0)"
            ),
            unit="percentunit",
            steps=_BUSY,
        ),
        stat(
            "Slots free",
            "Jobs that could start at once, on workers that are online.",
            Query(f"sum(site:edge_worker_free_slots:sum{{{_SITE}}}) or vector(0)"),
            steps=NONE_IS_BAD,
        ),
        stat(
            "Jobs running",
            "From the last reports of the workers, including workers out of contact.",
            Query(f'sum(site_phase:edge_worker_jobs:sum{{{_SITE}, phase="running"}}) or vector(0)'),
        ),
    ]


def _in_state(state: str) -> str:
    return f'sum(site_state:edge_workers:max{{{_SITE}, state="{state}"}}) or vector(0)'


def _sites() -> Panel:
    def workers(state: str) -> str:
        return f'sum by (site) (site_state:edge_workers:max{{{_SITE}, state="{state}"}})'

    def jobs(phase: str) -> str:
        return f'sum by (site) (site_phase:edge_worker_jobs:sum{{{_SITE}, phase="{phase}"}})'

    return table(
        "Sites",
        "One row for each site. Click a site to filter by it.",
        [Key("site", "Site", [SITE_CELL])],
        [
            Column("Online", workers("online"), steps=NONE_IS_BAD),
            Column("Draining", workers("draining")),
            Column("Offline", workers("offline"), steps=NONE_IS_WELL),
            Column("In conflict", workers("conflict"), steps=NONE_IS_WELL),
            Column("Never seen", workers("never seen")),
            Column("Slots", f"sum by (site) (site:edge_worker_slots:sum{{{_SITE}}})"),
            Column("Free slots", f"sum by (site) (site:edge_worker_free_slots:sum{{{_SITE}}})"),
            Column("Granted", jobs("granted")),
            Column("Running", jobs("running")),
            Column("Finishing", jobs("finishing")),
        ],
        sort_by="Offline",
    )


def _sites_over_time() -> list[Panel]:
    return [
        graph(
            "Workers by state",
            "All chosen sites. A sudden change from online to offline is a link or a site; a slow one is machines.",
            Query(f"sum by (state) (site_state:edge_workers:max{{{_SITE}}})", "{{state}}"),
            stacked=True,
        ),
        graph(
            "Jobs running, by site",
            "From the last reports of the workers.",
            Query(f'site_phase:edge_worker_jobs:sum{{{_SITE}, phase="running"}}', "{{site}}"),
            links=[SITE_SERIES],
        ),
        graph(
            "Slots in use, by site",
            "Of the workers that are online. A site that stays at 100 % has too few slots.",
            Query(
                f"1 - site:edge_worker_free_slots:sum{{{_SITE}}} / (site:edge_worker_slots:sum{{{_SITE}}} > 0)",
                "{{site}}",
            ),
            unit="percentunit",
            largest=1,
            links=[SITE_SERIES],
        ),
    ]


def _workers() -> Panel:
    def figure(name: str, more: str = "") -> str:
        return f"max by (worker) ({name}{{{_SITE}{more}}})"

    return table(
        "Workers",
        "One row for each worker that is not revoked. Click a worker for its own dashboard.",
        [
            Key("worker", "Worker", [WORKER_CELL]),
            Key("site", "Site", [SITE_CELL]),
            Key("team", "Team"),
            Key("state", "State", colors=_STATES),
            Key("agent_version", "Agent"),
            Key("airflow_version", "Airflow"),
            Key("python_version", "Python"),
            Key("proxy", "Proxy"),
        ],
        [
            Column(
                "State known",
                f"max by (worker, state) (worker_site_state:edge_worker_state:max{{{_SITE}}})",
                shown=False,
            ),
            Column(
                "Reported",
                "max by (worker, site, team, agent_version, airflow_version, python_version, proxy)"
                f" (edge_worker_info{{{_SITE}}})",
                shown=False,
            ),
            Column(
                "Last contact",
                f"time() - {figure('edge_worker_last_contact_timestamp_seconds')}",
                "s",
                [(None, "green"), (90, "yellow"), (180, "red")],
                0,
            ),
            Column("Slots", figure("edge_worker_slots")),
            Column("Free", figure("edge_worker_free_slots")),
            Column("Running", figure("edge_worker_jobs", ', phase="running"')),
            Column("CPU", figure("edge_worker_cpu_busy_ratio"), "percentunit", _BUSY),
            Column(
                "Memory",
                f"{figure('edge_worker_memory_used_bytes')} / {figure('edge_worker_memory_total_bytes')}",
                "percentunit",
                _BUSY,
            ),
            Column(
                "Disk free",
                f"{figure('edge_worker_disk_free_bytes')} / {figure('edge_worker_disk_total_bytes')}",
                "percentunit",
                _FREE,
            ),
            Column("Log lag", figure("edge_worker_log_lag_bytes"), "bytes"),
            Column("Clock skew", figure("edge_worker_clock_skew_seconds"), "s", decimals=1),
        ],
        height=12,
        sort_by="Last contact",
    )


def _workers_over_time() -> list[Panel]:
    def top(name: str, func: str = "topk") -> str:
        return f"{func}(10, max by (worker, site) ({name}{{{_SITE}}}))"

    return [
        graph(
            "Least disk free (10 workers)",
            "On the disk of the state folder. Below its reserve (200 MiB) a worker accepts no jobs.",
            Query(top("edge_worker_disk_free_bytes", "bottomk"), "{{worker}}"),
            unit="bytes",
            width=6,
            links=[WORKER_SERIES],
        ),
        graph(
            "Link cuts per hour (10 worst)",
            "Times the link to the relay was lost. Cuts do not harm tasks; many cuts indicate a faulty proxy or line.",
            Query(
                f"topk(10, max by (worker, site) (increase(edge_worker_link_cuts_total{{{_SITE}}}[1h])))", "{{worker}}"
            ),
            width=6,
            links=[WORKER_SERIES],
        ),
        graph(
            "Log bytes not uploaded (10 worst)",
            "On the workers' disks, not yet at the relay: Airflow shows these logs late.",
            Query(top("edge_worker_log_lag_bytes"), "{{worker}}"),
            unit="bytes",
            width=6,
            links=[WORKER_SERIES],
        ),
        graph(
            "Clock skew (10 worst)",
            "The machine's clock minus the relay's, as an absolute value. Above 30 s an alert fires.",
            Query(f"topk(10, max by (worker, site) (abs(edge_worker_clock_skew_seconds{{{_SITE}}})))", "{{worker}}"),
            unit="s",
            width=6,
            steps=[(None, "green"), (30, "red")],
            links=[WORKER_SERIES],
        ),
    ]


def _firing() -> Panel:
    return table(
        "Firing now",
        "Alerts of all parts. docs/runbooks explains for each what it means and what to do.",
        [
            Key("alertname", "Alert"),
            Key("severity", "Severity", colors={"critical": "red", "warning": "yellow"}),
            Key("site", "Site", [SITE_CELL]),
            Key("worker", "Worker", [WORKER_CELL]),
            Key("queue", "Queue"),
            Key("instance", "Instance"),
        ],
        [
            Column(
                "Firing",
                "sum by (alertname, severity, site, worker, queue, instance)"
                ' (ALERTS{alertstate="firing", system="edge-relay"})',
                shown=False,
            )
        ],
        width=12,
        height=8,
    )


def _versions() -> list[Panel]:
    def count(label: str) -> str:
        return f"count by ({label}) (max by (worker, {label}) (edge_worker_info{{{_SITE}}}))"

    return [
        table(
            "Agent versions",
            "Number of workers by version of the agent.",
            [Key("agent_version", "Agent")],
            [Column("Workers", count("agent_version"))],
            width=4,
            height=8,
            sort_by="Workers",
        ),
        table(
            "Airflow versions",
            "Of the workers' runtimes; empty for a worker without one. No version may be newer than the centre's.",
            [Key("airflow_version", "Airflow")],
            [Column("Workers", count("airflow_version"))],
            width=4,
            height=8,
            sort_by="Workers",
        ),
        table(
            "Network paths to the relay",
            "Direct, or through a proxy, by kind of proxy.",
            [Key("proxy", "Proxy")],
            [Column("Workers", count("proxy"))],
            width=4,
            height=8,
            sort_by="Workers",
        ),
    ]
