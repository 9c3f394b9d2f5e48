"""What producers do at this replica, counted in the registry of its metrics."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge


class ProducerMetrics:
    """Submissions and waits. Labels name queues only of jobs that were accepted: no caller makes up a series."""

    def __init__(self, registry: CollectorRegistry, waits: Callable[[], int]) -> None:
        self.submissions = Counter(
            "edge_relay_submissions",
            "Jobs accepted from producers; a repeat with the same key is none",
            ("team", "queue", "kind"),
            registry=registry,
        )
        self.rejected = Counter(
            "edge_relay_submissions_rejected", "Submissions rejected, by problem code", ("code",), registry=registry
        )
        gauge = Gauge("edge_relay_producer_waits", "Calls of producers that wait", registry=registry)
        gauge.set_function(waits)
