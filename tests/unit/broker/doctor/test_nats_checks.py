"""What the doctors say of copies of streams, by what a cluster answers."""

import pytest

from edge_broker.doctor.consumer_checks import replicas_finding
from edge_broker.jetstream.stream_info import Peer, StreamInfo
from edge_service.findings import Status


def _stream(copies: int, *peers: Peer) -> StreamInfo:
    return {
        "config": {"num_replicas": copies},
        "created": "2026-01-01T00:00:00Z",
        "state": {"messages": 0, "last_seq": 0, "bytes": 0, "first_ts": "0001-01-01T00:00:00Z"},
        "cluster": {"replicas": list(peers)},
    }


GOOD: Peer = {"name": "n2", "current": True}
BEHIND: Peer = {"name": "n3", "current": False}
AWAY: Peer = {"name": "n3", "current": True, "offline": True}


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
def test_copies_of_streams(stream: StreamInfo, *, clustered: bool, status: Status, detail: str) -> None:
    finding = replicas_finding({"EDGE_JOBS": stream}, clustered=clustered)
    assert finding.status is status
    assert detail in finding.detail
