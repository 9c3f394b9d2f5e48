"""Relay internals: relays, keepers, executor and NATS, for whoever looks for the cause."""

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
        "Relays, keepers, executor and NATS: where is the time spent, and which part does not answer?",
        [Choice("instance", "Relay", "edge_relay_build_info")],
        [
            Row("Is all well?", _first_look()),
            Row("Parts", [_parts(), _versions()]),
            Row("Handing out", _handing_out()),
            Row("Calls of workers", _calls()),
            Row("Calls to Airflow", _airflow()),
            Row("Keepers", _keepers()),
            Row("NATS", _broker()),
            Row("Processes", _processes()),
        ],
    )


def _first_look() -> list[Panel]:
    connected = '{__name__=~"edge_(relay|keeper|executor)_broker_connected"}'
    expiry = f"edge_relay_tls_certificate_expiry_timestamp_seconds{{{_RELAY}}}"
    return [
        stat(
            "Relays up",
            "That Prometheus can read. Without one no worker gets a job.",
            Query('sum(up{job="relay"}) or vector(0)'),
            steps=NONE_IS_BAD,
        ),
        stat(
            "Keepers up",
            "Without one Airflow fails all edge tasks after five minutes.",
            Query('sum(up{job="keeper"}) or vector(0)'),
            steps=NONE_IS_BAD,
        ),
        stat(
            "Executors up",
            "In the schedulers, if metrics_port is set there.",
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
            "Event loop late by",
            "One in a hundred timers of the slowest relay fires later than this. Above 0.25 s it lacks CPU.",
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
            "Of the relay whose certificate ends first. Without TLS here there is none.",
            Query(f"min({expiry}) - time()"),
            unit="s",
            steps=[(None, "red"), (2 * _DAY_S, "yellow"), (14 * _DAY_S, "green")],
            no_value="no TLS here",
        ),
        stat(
            "JetStream storage",
            "Used, of what the server gives. When it is full nothing moves.",
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
        "One row for each process that Prometheus reads. Click a relay to see it alone.",
        [Key("job", "Part"), Key("instance", "Instance", [RELAY_CELL])],
        [
            Column("Up", f"max by (job, instance) (up{{{by_part}}})", steps=NONE_IS_BAD),
            Column("NATS connected", f"max by (job, instance) ({connected})", steps=NONE_IS_BAD),
            Column(
                "Runs for",
                f"time() - max by (job, instance) (process_start_time_seconds{{{by_part}}})",
                "s",
                decimals=0,
            ),
            Column("Polls parked", "max by (job, instance) (edge_relay_polls_parked)"),
            Column("State seen", "max by (job, instance) (edge_shared_state_age_seconds)", "s", decimals=0),
            Column("Memory", f"max by (job, instance) (process_resident_memory_bytes{{{by_part}}})", "bytes"),
        ],
        width=14,
        height=8,
        sort_by="Part",
    )


def _versions() -> Panel:
    return table(
        "Relay versions",
        "Which version each relay runs, with which NATS.",
        [
            Key("instance", "Relay"),
            Key("version", "Version"),
            Key("protocol", "Protocol"),
            Key("nats_server", "nats-server"),
        ],
        [
            Column(
                "Told",
                "max by (instance, version, protocol, nats_server) (edge_relay_build_info)",
                shown=False,
            )
        ],
        width=10,
        height=8,
    )


def _handing_out() -> list[Panel]:
    return [
        graph(
            "Polls parked",
            "Workers that wait for jobs, by replica. A replica without any is not reached.",
            Query(f"edge_relay_polls_parked{{{_RELAY}}}", "{{instance}}"),
            stacked=True,
        ),
        graph(
            "Hand-out",
            "From a message's arrival at the relay to the written answer of the poll.",
            Query(quantile(0.5, "edge_relay_hand_out_seconds", where=_RELAY), "half below"),
            Query(quantile(0.99, "edge_relay_hand_out_seconds", where=_RELAY), "99 % below"),
            unit="s",
        ),
        graph(
            "From grant to start",
            "The worker's confirmation, link included.",
            Query(quantile(0.5, "edge_relay_start_confirm_seconds", where=_RELAY), "half below"),
            Query(quantile(0.99, "edge_relay_start_confirm_seconds", where=_RELAY), "99 % below"),
            unit="s",
        ),
        graph(
            "Grants, starts, ends per second",
            "By replica; what one granted another may see started.",
            Query(rate("edge_relay_grants_total", by="instance", where=_RELAY), "granted {{instance}}"),
            Query(rate("edge_relay_starts_total", by="instance", where=_RELAY), "started {{instance}}"),
            Query(rate("edge_relay_finishes_total", by="instance", where=_RELAY), "ended {{instance}}"),
            unit="ops",
        ),
        graph(
            "Messages that went back, per second",
            "By the relay: no poll fitted, or the poll was gone. By workers: released. Redelivered: seen again.",
            Query(rate("edge_relay_returns_total", by="reason", where=_RELAY), "{{reason}}"),
            Query(rate("edge_relay_releases_total", where=_RELAY), "released by workers"),
            Query(rate("edge_relay_started_releases_total", where=_RELAY), "released before user code"),
            Query(rate("edge_relay_redeliveries_total", where=_RELAY), "redelivered"),
            unit="ops",
        ),
        graph(
            "Pulls that failed, per second",
            "By NATS's status. Some are normal when NATS restarts.",
            Query(rate("edge_relay_pull_errors_total", by="status", where=_RELAY), "{{status}}"),
            Query(rate("edge_relay_bad_messages_total", where=_RELAY), "no job in the message"),
            unit="ops",
        ),
    ]


def _calls() -> list[Panel]:
    return [
        graph(
            "Calls per second, by route",
            "Polls included; a poll counts when it is answered.",
            Query(rate("edge_relay_requests_total", by="route", where=_RELAY), "{{route}}"),
            unit="reqps",
            stacked=True,
        ),
        graph(
            "Calls per second, by status",
            "4xx: a worker is refused. 5xx: the relay could not; workers repeat.",
            Query(rate("edge_relay_requests_total", by="status", where=_RELAY), "{{status}}"),
            unit="reqps",
            stacked=True,
        ),
        graph(
            "Time to answer, 99 % below",
            "By route. Polls are held on purpose and are not counted.",
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
            "Credentials refused, per second",
            "Missing, unknown, revoked or forbidden. A steady line is a machine that goes on asking.",
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
            "The same, the slow ones.",
            Query(quantile(0.99, seconds, by="call", where=_RELAY), "{{call}}"),
            unit="s",
        ),
        graph(
            "Tasks' calls per second, by outcome",
            "Answered: Airflow, or the keeper, said something. Else nobody answered in time, and the task waits.",
            Query(rate(f"{seconds}_count", by="outcome", where=_RELAY), "{{outcome}}"),
            unit="reqps",
            stacked=True,
        ),
        graph(
            "At the keeper, 99 % below",
            "Its part of the same calls, api-server included.",
            Query(quantile(0.99, "edge_keeper_gate_seconds", by="call"), "{{call}}"),
            unit="s",
        ),
        graph(
            "At the api-server, 99 % below",
            "How long Airflow itself takes. If this is slow, nothing of ours is.",
            Query(quantile(0.99, "edge_keeper_api_seconds", by="call"), "{{call}}"),
            unit="s",
        ),
        graph(
            "Gate calls per second, by status",
            "What the keepers answered to the relays.",
            Query(rate("edge_keeper_gate_calls_total", by="status"), "{{status}}"),
            unit="reqps",
            stacked=True,
        ),
    ]


def _keepers() -> list[Panel]:
    return [
        graph(
            "Central heartbeats per second",
            "Sent to Airflow for tasks at the edge. Refused: Airflow no longer wants the task. Failed: no answer.",
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
            "Silence: out of contact beyond the tolerance. Lacked: the worker came back without the job.",
            Query("sum by (reason) (increase(edge_keeper_give_ups_total[1h]))", "{{reason}}"),
        ),
        graph(
            "Since the last look into Airflow's database",
            "About a second is normal. While it grows, marks and clears do not stop tasks.",
            Query("edge_keeper_database_check_age_seconds", "{{instance}}"),
            unit="s",
            steps=[(None, "green"), (60, "red")],
        ),
        graph(
            "What keepers know",
            "1 is well. Picture: all job records are here. Hears: relays say that workers can reach them.",
            Query("edge_keeper_view_complete", "view complete {{instance}}"),
            Query("edge_keeper_contact_possible", "contact possible {{instance}}"),
            largest=1,
        ),
        graph(
            "Tokens minted per second",
            "One for each call that the gate lets through.",
            Query(rate("edge_keeper_token_mints_total", by="instance"), "{{instance}}"),
            unit="ops",
        ),
    ]


def _broker() -> list[Panel]:
    return [
        graph(
            "JetStream storage",
            "Of the account; there may be no limit.",
            Query("edge:edge_broker_store_bytes:max", "used"),
            Query("edge:edge_broker_store_max_bytes:max", "limit"),
            unit="bytes",
        ),
        graph(
            "Bytes by stream",
            "EDGE_LOGS runs full and drops its oldest; EDGE_JOBS must not.",
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
            "EDGE_JOBS: what waits. KV_edge_jobs: records, ended ones for seven days.",
            Query("stream:edge_broker_stream_messages:max", "{{stream}}"),
        ),
        graph(
            "Connections that came back, per hour",
            "A line that never rests: the network to NATS, or NATS itself, is unwell.",
            Query("sum by (job, instance) (increase(edge_relay_broker_reconnects_total[1h]))", "{{job}} {{instance}}"),
            Query("sum by (job, instance) (increase(edge_keeper_broker_reconnects_total[1h]))", "{{job}} {{instance}}"),
        ),
        graph(
            "Since the shared state was seen",
            "Each relay looks every ten seconds; above a minute its figures are left out.",
            Query("edge_shared_state_age_seconds", "{{instance}}"),
            unit="s",
            steps=[(None, "green"), (60, "red")],
        ),
    ]


def _processes() -> list[Panel]:
    parts = 'job=~"relay|keeper|executor"'
    return [
        graph(
            "Event loop late by, 99 % below",
            "How late a timer fires. Above 0.25 s the process lacks CPU.",
            Query(quantile(0.99, "edge_relay_event_loop_lag_seconds", by="instance"), "relay {{instance}}"),
            Query(quantile(0.99, "edge_keeper_event_loop_lag_seconds", by="instance"), "keeper {{instance}}"),
            unit="s",
            width=6,
            steps=[(None, "green"), (0.25, "red")],
        ),
        graph(
            "CPU cores used",
            "A relay is one process with one event loop: near 1 it needs a replica.",
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
            "Each parked poll is one. Compare with the limit of the process.",
            Query(f"process_open_fds{{{parts}}}", "{{job}} {{instance}}"),
            Query(f"min(process_max_fds{{{parts}}})", "lowest limit"),
            width=6,
        ),
    ]
