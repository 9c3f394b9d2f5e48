"""Counts and traces the jobs that a keeper has given up."""

from edge_bridge.keeper.metrics import KeeperMetrics
from edge_bridge.tracing import CentreJobSpans
from edge_schemas.life.events import GiveUp
from edge_schemas.life.model import JobRecord


class GiveUpFigures:
    """See `edge_upkeep.give_up.GiveUpReports`."""

    def __init__(self, metrics: KeeperMetrics, spans: CentreJobSpans) -> None:
        self._metrics = metrics
        self._spans = spans

    def given_up(self, before: JobRecord, after: JobRecord, event: GiveUp) -> None:
        """A job was given up here, not by another keeper."""
        self._metrics.given_up(event)
        self._spans.given_up(before, after)
        if after.parked is not None:
            self._metrics.parked()

    def put_aside(self, step: str) -> None:
        """A job could not be handled, because of a fault."""
        self._metrics.put_aside(step)
