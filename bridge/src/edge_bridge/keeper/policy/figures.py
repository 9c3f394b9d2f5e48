"""The metrics of need to know. Labels are closed lists: no name of a connection or a variable is among them."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

from edge_schemas.policies.accesses import AccessOutcome
from edge_schemas.policies.policy import AccessKind


class PolicyFigures:
    """Counted in one keeper.

    Args:
        registry: Of the keeper.
        are_known: Whether the policies were read.
    """

    def __init__(self, registry: CollectorRegistry, are_known: Callable[[], bool]) -> None:
        self._accesses = Counter(
            "edge_keeper_policy_accesses",
            "What jobs used of Airflow, such as connections and variables: allowed; would_be_denied, which is a policy "
            "in mode log; denied",
            ["kind", "outcome"],
            registry=registry,
        )
        self._dropped = Counter(
            "edge_keeper_policy_accesses_dropped",
            "Accesses that are in no list, because counts of too many queues and sites wait for NATS",
            registry=registry,
        )
        known = Gauge(
            "edge_keeper_policies_known",
            "1 once the policies were read; until then jobs get no connection and no variable",
            registry=registry,
        )
        known.set_function(lambda: float(are_known()))
        for kind in AccessKind:
            for outcome in AccessOutcome:
                self._accesses.labels(kind, outcome)

    def used(self, kind: AccessKind, outcome: AccessOutcome) -> None:
        """A job used something, or was not allowed to."""
        self._accesses.labels(kind, outcome).inc()

    def dropped(self, count: int) -> None:
        """Accesses were not counted for a queue or a site."""
        self._dropped.inc(count)
