"""What this replica sends of published bundles, counted in the registry of its metrics."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

PIECE_SOURCES = ("memory", "shared", "nats")


class BundleMetrics:
    """Bytes, and where pieces came from. No label names a bundle: they are many, and any text."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.bytes = Counter("edge_relay_bundle_bytes", "Bytes of manifests and pieces sent", registry=registry)
        self._pieces = Counter(
            "edge_relay_bundle_pieces",
            "Pieces that answers needed: from memory (memory), from a read that another answer had begun (shared), or "
            "read for this answer (nats)",
            ("source",),
            registry=registry,
        )
        for source in PIECE_SOURCES:
            self._pieces.labels(source)
        self._cache_bytes = Gauge("edge_relay_bundle_cache_bytes", "Bytes of pieces in memory", registry=registry)
        self._answers = Gauge(
            "edge_relay_bundle_answers", "Answers with manifests and pieces that workers read", registry=registry
        )

    def pieces_from(self, source: str, count: int) -> None:
        """So many pieces came from this source."""
        self._pieces.labels(source).inc(count)

    def follow(self, cache_bytes: Callable[[], int], answers: Callable[[], int]) -> None:
        """Export what is in memory and on its way."""
        self._cache_bytes.set_function(cache_bytes)
        self._answers.set_function(answers)
