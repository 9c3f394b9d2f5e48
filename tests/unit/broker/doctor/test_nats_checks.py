"""What the doctors say of copies of streams, by what a cluster answers."""

from typing import Any

import pytest

from edge_broker.doctor.nats_checks import replicas_finding
from edge_service.findings import Status


def _stream(copies: int, *peers: dict[str, Any]) -> dict[str, Any]:
    return {"config": {"num_replicas": copies}, "cluster": {"leader": "n1", "replicas": list(peers)}}


GOOD, BEHIND, AWAY = (
    {"name": "n2", "current": True},
    {"name": "n3", "current": False},
    {"name": "n3", "current": True, "offline": True},
)


@pytest.mark.parametrize(
    ("stream", "clustered", "status", "detail"),
    [
        (_stream(1), False, Status.OK, "1, on a single server"),
        (_stream(3, GOOD, GOOD), True, Status.OK, "3, on a cluster"),
        (_stream(1), True, Status.WARNING, "one copy only, in a cluster: EDGE_JOBS"),
        (_stream(3, GOOD, BEHIND), True, Status.WARNING, "EDGE_JOBS on n3"),
        (_stream(3, GOOD, AWAY), True, Status.WARNING, "EDGE_JOBS on n3"),
    ],
)
def test_copies_of_streams(stream: dict[str, Any], *, clustered: bool, status: Status, detail: str) -> None:
    finding = replicas_finding({"EDGE_JOBS": stream}, clustered=clustered)
    assert finding.status is status
    assert detail in finding.detail
