"""The metrics of a keeper's work on bundles."""

from prometheus_client import CollectorRegistry, Counter, Gauge

PUBLICATIONS = ("published", "failed")
PRUNES = ("ok", "failed")
REMOVED = ("version", "manifest", "piece")


class BundleMetrics:
    """Counts what this keeper publishes and removes.

    Attributes:
        leads: 1 while this keeper is the one of all that publishes and removes.
        versions: How many versions are published.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._publications = Counter(
            "edge_keeper_bundle_publications",
            "Versions of DAG bundles that this keeper has published, or failed to; a failure is repeated",
            ["outcome"],
            registry=registry,
        )
        self._prunes = Counter(
            "edge_keeper_bundle_prunes",
            "Searches for old versions of DAG bundles by this keeper; a failed one has removed less than it could",
            ["outcome"],
            registry=registry,
        )
        self._removed = Counter(
            "edge_keeper_bundle_removals",
            "What this keeper has removed of old versions of DAG bundles",
            ["what"],
            registry=registry,
        )
        self.leads = Gauge(
            "edge_keeper_bundles_leader",
            "1 if this keeper publishes DAG bundles and removes old versions; one of all keepers does",
            registry=registry,
        )
        self.versions = Gauge(
            "edge_keeper_bundle_versions",
            "Published versions of all DAG bundles; 0 at keepers that do not lead",
            registry=registry,
        )
        for counter, values in (
            (self._publications, PUBLICATIONS),
            (self._prunes, PRUNES),
            (self._removed, REMOVED),
        ):
            for value in values:
                counter.labels(value)

    def published(self) -> None:
        """A version was published."""
        self._publications.labels("published").inc()

    def not_published(self) -> None:
        """A publication failed."""
        self._publications.labels("failed").inc()

    def pruned(self, *, versions: int, manifests: int, pieces: int) -> None:
        """A search for old versions has ended."""
        self._prunes.labels("ok").inc()
        for what, number in zip(REMOVED, (versions, manifests, pieces), strict=True):
            self._removed.labels(what).inc(number)

    def not_pruned(self) -> None:
        """A search for old versions failed."""
        self._prunes.labels("failed").inc()
