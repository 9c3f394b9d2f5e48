"""Relay internals: relays, keepers, executor and NATS, to find the cause of a problem."""

from grafana.boards.dashboards import RELAY, RELAY_CELL, Choice, Row, dashboard
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

_RELAY = 'instance=~"$instance"'
_DAY_S = 86_400
_FULL = [(None, "green"), (0.8, "yellow"), (0.95, "red")]


def make() -> Json:
    """The dashboard."""
    return dashboard(
        RELAY,
        "relay internals",
        "Relays, keepers, executor and NATS: where is time spent, and which part does not answer?",
        [Choice("instance", "Relay", "edge_relay_build_info")],
        [
            Row("Is all well?", _summary()),
            Row("Parts", [_parts(), _versions()]),
            Row("Granting jobs", _grants()),
            Row("Calls of workers", _calls()),
            Row("Calls to Airflow", _airflow()),
            Row("Keepers", _keepers()),
            Row("DAG code, signatures, policies", _trust()),
            Row("NATS", _broker()),
            Row("Processes", _processes()),
        ],
    )


def _summary() -> list[Panel]:
    connected = '{__name__=~"edge_(relay|keeper|executor)_broker_connected"}'
    expiry = f"edge_relay_tls_certificate_expiry_timestamp_seconds{{{_RELAY}}}"
    return [
        stat(
            "Relays up",
            "Relays that Prometheus can read. Without a relay no worker gets a job.",
            Query('sum(up{job="relay"}) or vector(0)'),
            steps=NONE_IS_BAD,
        ),
        stat(
            "Keepers up",
            "Without a keeper Airflow fails all edge tasks after five minutes.",
            Query('sum(up{job="keeper"}) or vector(0)'),
            steps=NONE_IS_BAD,
        ),
        stat(
            "Executors up",
            "In the schedulers whose metrics_port is set.",
            Query('sum(up{job="executor"}) or vector(0)'),
            steps=NONE_IS_BAD,
        ),
        stat(
            "Parts without NATS",
            "Relays, keepers and executors that are not connected.",
            Query(f"count({connected} == 0) or vector(0)"),
            steps=NONE_IS_WELL,
        ),
        stat(
            "Event loop lag",
            "One in a hundred timers of the slowest relay fires later than this. Above 0.25 s the relay lacks CPU.",
            Query(f"max({quantile(0.99, 'edge_relay_event_loop_lag_seconds', by='instance', where=_RELAY)})"),
            unit="s",
            steps=[(None, "green"), (0.1, "yellow"), (0.25, "red")],
        ),
        stat(
            "Server errors",
            "Share of the workers' calls that were answered with a status of 500 or above.",
            Query(
                f'(sum(rate(edge_relay_requests_total{{{_RELAY}, status=~"5.."}}[$__rate_interval])) or vector(0))'
                f" / sum(rate(edge_relay_requests_total{{{_RELAY}}}[$__rate_interval]))"
            ),
            unit="percentunit",
            steps=[(None, "green"), (0.01, "yellow"), (0.05, "red")],
            no_value="no calls",
        ),
        stat(
            "Certificate valid for",
            "Of the relay whose certificate expires first. Empty if the relays have no TLS.",
            Query(f"min({expiry}) - time()"),
            unit="s",
            steps=[(None, "red"), (2 * _DAY_S, "yellow"), (14 * _DAY_S, "green")],
            no_value="no TLS here",
        ),
        stat(
            "JetStream storage",
            "Used share of the server's limit. When it is full, no job is published or granted.",
            Query("edge:edge_broker_store_bytes:max / edge:edge_broker_store_max_bytes:max"),
            unit="percentunit",
            steps=_FULL,
            no_value="no limit set",
        ),
    ]


def _parts() -> Panel:
    by_part = 'job=~"relay|keeper|executor"'
    connected = '{__name__=~"edge_(relay|keeper|executor)_broker_connected"}'
    return table(
        "Parts",
        "One row for each process that Prometheus reads. Click a relay to filter by it.",
        [Key("job", "Part"), Key("instance", "Instance", [RELAY_CELL])],
        [
            Column("Up", f"max by (job, instance) (up{{{by_part}}})", steps=NONE_IS_BAD),
            Column("NATS connected", f"max by (job, instance) ({connected})", steps=NONE_IS_BAD),
            Column(
                "Uptime",
                f"time() - max by (job, instance) (process_start_time_seconds{{{by_part}}})",
                "s",
                decimals=0,
            ),
            Column("Polls parked", "max by (job, instance) (edge_relay_polls_parked)"),
            Column("State age", "max by (job, instance) (edge_shared_state_age_seconds)", "s", decimals=0),
            Column("Memory", f"max by (job, instance) (process_resident_memory_bytes{{{by_part}}})", "bytes"),
        ],
        width=14,
        height=8,
        sort_by="Part",
    )


def _versions() -> Panel:
    return table(
        "Relay versions",
        "Version of each relay and of its NATS server.",
        [
            Key("instance", "Relay"),
            Key("version", "Version"),
            Key("protocol", "Protocol"),
            Key("nats_server", "nats-server"),
        ],
        [
            Column(
                "Reported",
                "max by (instance, version, protocol, nats_server) (edge_relay_build_info)",
                shown=False,
            )
        ],
        width=10,
        height=8,
    )


def _grants() -> list[Panel]:
    return [
        graph(
            "Polls parked",
            "Workers that wait for jobs, by replica. A replica without parked polls is not reached.",
            Query(f"edge_relay_polls_parked{{{_RELAY}}}", "{{instance}}"),
            stacked=True,
        ),
        graph(
            "Hand-out",
            "From the arrival of a message at the relay to the written answer of the poll.",
            Query(quantile(0.5, "edge_relay_hand_out_seconds", where=_RELAY), "half below"),
            Query(quantile(0.99, "edge_relay_hand_out_seconds", where=_RELAY), "99 % below"),
            unit="s",
        ),
        graph(
            "From grant to start",
            "Time until the worker's confirmation arrives, including the link.",
            Query(quantile(0.5, "edge_relay_start_confirm_seconds", where=_RELAY), "half below"),
            Query(quantile(0.99, "edge_relay_start_confirm_seconds", where=_RELAY), "99 % below"),
            unit="s",
        ),
        graph(
            "Grants, starts, ends per second",
            "By replica; a job that one replica granted may be started at another.",
            Query(rate("edge_relay_grants_total", by="instance", where=_RELAY), "granted {{instance}}"),
            Query(rate("edge_relay_starts_total", by="instance", where=_RELAY), "started {{instance}}"),
            Query(rate("edge_relay_finishes_total", by="instance", where=_RELAY), "ended {{instance}}"),
            unit="ops",
        ),
        graph(
            "Messages returned, per second",
            "By the relay: no suitable poll, or the poll was gone. By workers: released. Redelivered: delivered again.",
            Query(rate("edge_relay_returns_total", by="reason", where=_RELAY), "{{reason}}"),
            Query(rate("edge_relay_releases_total", where=_RELAY), "released by workers"),
            Query(rate("edge_relay_started_releases_total", where=_RELAY), "released before user code"),
            Query(rate("edge_relay_redeliveries_total", where=_RELAY), "redelivered"),
            unit="ops",
        ),
        graph(
            "Pulls that failed, per second",
            "By NATS status. Some are normal when NATS restarts.",
            Query(rate("edge_relay_pull_errors_total", by="status", where=_RELAY), "{{status}}"),
            Query(rate("edge_relay_bad_messages_total", where=_RELAY), "no job in the message"),
            unit="ops",
        ),
    ]


def _calls() -> list[Panel]:
    return [
        graph(
            "Calls per second, by route",
            "Including polls; a poll counts when it is answered.",
            Query(rate("edge_relay_requests_total", by="route", where=_RELAY), "{{route}}"),
            unit="reqps",
            stacked=True,
        ),
        graph(
            "Calls per second, by status",
            "4xx: the call is rejected. 5xx: the relay could not serve the call; workers retry.",
            Query(rate("edge_relay_requests_total", by="status", where=_RELAY), "{{status}}"),
            unit="reqps",
            stacked=True,
        ),
        graph(
            "Time to answer, 99 % below",
            "By route. Polls wait on purpose and are not counted.",
            Query(quantile(0.99, "edge_relay_request_seconds", by="route", where=_RELAY), "{{route}}"),
            unit="s",
        ),
        graph(
            "Log bytes per second",
            "Stored by the relays.",
            Query(rate("edge_relay_log_bytes_total", by="instance", where=_RELAY), "{{instance}}"),
            unit="Bps",
            stacked=True,
        ),
        graph(
            "Credentials rejected, per second",
            "Missing, unknown, revoked or forbidden. A steady line is a machine that keeps retrying.",
            Query(rate("edge_relay_credential_failures_total", by="reason", where=_RELAY), "{{reason}}"),
            unit="reqps",
        ),
        graph(
            "Enrolments per hour",
            "By outcome.",
            Query(f"sum by (outcome) (increase(edge_relay_enrollments_total{{{_RELAY}}}[1h]))", "{{outcome}}"),
        ),
    ]


def _airflow() -> list[Panel]:
    seconds = "edge_relay_execution_seconds"
    return [
        graph(
            "Tasks' calls to Airflow, half below",
            "Through relay, keeper and api-server, by class of call.",
            Query(quantile(0.5, seconds, by="call", where=_RELAY), "{{call}}"),
            unit="s",
        ),
        graph(
            "Tasks' calls to Airflow, 99 % below",
            "Through relay, keeper and api-server, by class of call: the slowest calls.",
            Query(quantile(0.99, seconds, by="call", where=_RELAY), "{{call}}"),
            unit="s",
        ),
        graph(
            "Tasks' calls per second, by outcome",
            "Answered: by Airflow or the keeper. Otherwise no answer came in time, and the task waits.",
            Query(rate(f"{seconds}_count", by="outcome", where=_RELAY), "{{outcome}}"),
            unit="reqps",
            stacked=True,
        ),
        graph(
            "At the keeper, 99 % below",
            "The keeper's part of the same calls, including the api-server.",
            Query(quantile(0.99, "edge_keeper_gate_seconds", by="call"), "{{call}}"),
            unit="s",
        ),
        graph(
            "At the api-server, 99 % below",
            "Airflow's own time. If this is slow, the cause is not in Edge Relay.",
            Query(quantile(0.99, "edge_keeper_api_seconds", by="call"), "{{call}}"),
            unit="s",
        ),
        graph(
            "Gate calls per second, by status",
            "The answers of the keepers to the relays.",
            Query(rate("edge_keeper_gate_calls_total", by="status"), "{{status}}"),
            unit="reqps",
            stacked=True,
        ),
    ]


def _keepers() -> list[Panel]:
    return [
        graph(
            "Central heartbeats per second",
            "Sent to Airflow for edge tasks. Refused: Airflow no longer wants the task. Failed: no answer.",
            Query(rate("edge_keeper_heartbeats_total", by="outcome"), "{{outcome}}"),
            unit="ops",
        ),
        graph(
            "Jobs that Airflow no longer wants, per hour",
            "Marked as stopping by the keepers, by reason.",
            Query("sum by (reason) (increase(edge_keeper_stop_requests_total[1h]))", "{{reason}}"),
        ),
        graph(
            "Given up, per hour",
            "Silence: out of contact for longer than the tolerance. Missing: the worker came back without the job.",
            Query("sum by (reason) (increase(edge_keeper_give_ups_total[1h]))", "{{reason}}"),
        ),
        graph(
            "Since the last check of Airflow's database",
            "About a second is normal. While it grows, tasks that are marked or cleared are not stopped.",
            Query("edge_keeper_database_check_age_seconds", "{{instance}}"),
            unit="s",
            steps=[(None, "green"), (60, "red")],
        ),
        graph(
            "State of the keepers",
            "1 is healthy. View complete: all job records are read. Contact possible: a relay serves workers. Policies "
            "known: jobs get connections and variables.",
            Query("edge_keeper_view_complete", "view complete {{instance}}"),
            Query("edge_keeper_contact_possible", "contact possible {{instance}}"),
            Query("edge_keeper_policies_known", "policies known {{instance}}"),
            largest=1,
        ),
        graph(
            "Tokens minted per second",
            "One for each call that the gate accepts.",
            Query(rate("edge_keeper_token_mints_total", by="instance"), "{{instance}}"),
            unit="ops",
        ),
    ]


def _trust() -> list[Panel]:
    return [
        graph(
            "DAG code that was not published, per hour",
            "Publications of keepers that failed, and tasks that failed because their version was missing.",
            Query('sum(increase(edge_keeper_bundle_publications_total{outcome="failed"}[1h]))', "publications"),
            Query('sum(increase(edge_executor_put_aside_total{step="bundle"}[1h]))', "tasks"),
        ),
        graph(
            "Signatures refused, per hour",
            "By workers: jobs that they released. By keepers and executors: records that are not as they were signed.",
            Query(f"sum(increase(edge_relay_signature_refusals_total{{{_RELAY}}}[1h]))", "workers"),
            Query('sum(increase(edge_keeper_put_aside_total{step="signature"}[1h]))', "keepers"),
            Query('sum(increase(edge_executor_put_aside_total{step="signature"}[1h]))', "executors"),
        ),
        graph(
            "Uses that policies deny, per hour",
            "Denied in mode enforce. Would be denied: counted in mode log.",
            Query(
                'sum by (outcome) (increase(edge_keeper_policy_accesses_total{outcome!="allowed"}[1h]))', "{{outcome}}"
            ),
        ),
    ]


def _broker() -> list[Panel]:
    return [
        graph(
            "JetStream storage",
            "Of the account; a limit is optional.",
            Query("edge:edge_broker_store_bytes:max", "used"),
            Query("edge:edge_broker_store_max_bytes:max", "limit"),
            unit="bytes",
        ),
        graph(
            "Bytes by stream",
            "EDGE_LOGS fills up to 85 %, then relays remove the oldest logs of ended jobs; EDGE_JOBS must not fill up.",
            Query("stream:edge_broker_stream_bytes:max", "{{stream}}"),
            unit="bytes",
            stacked=True,
        ),
        graph(
            "Share of its limit, by stream",
            "Streams without a limit are not shown.",
            Query(
                "stream:edge_broker_stream_bytes:max / on (stream) stream:edge_broker_stream_max_bytes:max",
                "{{stream}}",
            ),
            unit="percentunit",
            largest=1,
        ),
        graph(
            "Messages by stream",
            "EDGE_JOBS: waiting jobs. KV_edge_jobs: records of unfinished jobs. KV_edge_jobs_ended: of ended ones.",
            Query("stream:edge_broker_stream_messages:max", "{{stream}}"),
        ),
        graph(
            "Reconnects, per hour",
            "If the line stays above 0, the network to NATS, or NATS itself, is unstable.",
            Query("sum by (job, instance) (increase(edge_relay_broker_reconnects_total[1h]))", "{{job}} {{instance}}"),
            Query("sum by (job, instance) (increase(edge_keeper_broker_reconnects_total[1h]))", "{{job}} {{instance}}"),
        ),
        graph(
            "Since the shared state was read",
            "Each relay reads the state every ten seconds; after a minute without it, its figures are left out.",
            Query("edge_shared_state_age_seconds", "{{instance}}"),
            unit="s",
            steps=[(None, "green"), (60, "red")],
        ),
    ]


def _processes() -> list[Panel]:
    parts = 'job=~"relay|keeper|executor"'
    return [
        graph(
            "Event loop lag, 99 % below",
            "How late a timer fires. Above 0.25 s the process lacks CPU.",
            Query(quantile(0.99, "edge_relay_event_loop_lag_seconds", by="instance"), "relay {{instance}}"),
            Query(quantile(0.99, "edge_keeper_event_loop_lag_seconds", by="instance"), "keeper {{instance}}"),
            unit="s",
            width=6,
            steps=[(None, "green"), (0.25, "red")],
        ),
        graph(
            "CPU cores used",
            "A relay is one process with one event loop: near 1 add a replica.",
            Query(f"rate(process_cpu_seconds_total{{{parts}}}[$__rate_interval])", "{{job}} {{instance}}"),
            width=6,
        ),
        graph(
            "Memory",
            "Resident.",
            Query(f"process_resident_memory_bytes{{{parts}}}", "{{job}} {{instance}}"),
            unit="bytes",
            width=6,
        ),
        graph(
            "Files and sockets open",
            "Each parked poll is one socket. Compare with the limit of the process.",
            Query(f"process_open_fds{{{parts}}}", "{{job}} {{instance}}"),
            Query(f"min(process_max_fds{{{parts}}})", "lowest limit"),
            width=6,
        ),
    ]
