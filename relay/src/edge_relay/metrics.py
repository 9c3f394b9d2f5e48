"""What the relay counts, in a registry of its own. Labels come from the server, never from a client."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The relay's metrics; one object per process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.polls_parked = Gauge(
            "edge_relay_polls_parked", "Polls that wait for something to say", registry=self.registry
        )
        self.requests = Counter("edge_relay_requests", "Calls answered", ["route", "status"], registry=self.registry)
        self.request_seconds = Histogram(
            "edge_relay_request_seconds",
            "Time to answer a call; polls are held on purpose and are not counted",
            ["route"],
            buckets=_LATENCY_S,
            registry=self.registry,
        )
        self.grants = Counter("edge_relay_grants", "Jobs offered to a worker", ["queue"], registry=self.registry)
        self.returns = Counter(
            "edge_relay_returns", "Messages given back to the queue by the relay", ["reason"], registry=self.registry
        )
        self.starts = Counter("edge_relay_starts", "Jobs started", registry=self.registry)
        self.finishes = Counter("edge_relay_finishes", "Jobs finished", ["verdict"], registry=self.registry)
        self.releases = Counter("edge_relay_releases", "Jobs given back by a worker", registry=self.registry)
        self.give_backs = Counter(
            "edge_relay_give_backs", "Started jobs whose user code never ran, given back", registry=self.registry
        )
        self.parked = Counter(
            "edge_relay_parked_jobs", "Jobs put aside after too many releases", registry=self.registry
        )
        self.bad_messages = Counter(
            "edge_relay_bad_messages", "Messages of a queue that hold no job", registry=self.registry
        )
        self.pull_errors = Counter(
            "edge_relay_pull_errors",
            "Pulls that ended in an error status or were lost",
            ["status"],
            registry=self.registry,
        )
        self.log_bytes = Counter("edge_relay_log_bytes", "Log bytes stored", registry=self.registry)
        self.gate_seconds = Histogram(
            "edge_relay_gate_seconds",
            "Time of a call through the gate",
            ["outcome"],
            buckets=_LATENCY_S,
            registry=self.registry,
        )
        self.broker_connected = Gauge(
            "edge_relay_broker_connected", "1 while the connection to NATS stands", registry=self.registry
        )
        self.broker_reconnects = Gauge(
            "edge_relay_broker_reconnects", "Times the connection to NATS came back", registry=self.registry
        )
