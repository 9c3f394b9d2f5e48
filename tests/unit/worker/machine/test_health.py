"""Figures of the machine, of the way and of the clock; what is not known is left out."""

from pathlib import Path

import pytest

from edge_schemas.wire.worker_report import ProxyKind
from edge_worker.machine.health import CpuMeter, proxy_kind, worker_health
from edge_worker.relay.clock_skew import ClockSkew
from edge_worker.relay.link import Link
from edge_worker.relay.proxy import Proxy

NOW = 1_800_000_000.0
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"


def stat(folder: Path, line: str) -> None:
    (folder / "stat").write_text(f"{line}\ncpu0 1 2 3\n")


@pytest.mark.parametrize(
    ("now", "share"),
    [
        ("cpu  150 0 100 850 0 0 0 0 0 0", 0.5),
        ("cpu  100 0 100 900 0 0 0 0 7 7", 0.0),
        ("cpu  100 0 100 800 50 0 0 50 0 0", 0.5),
        ("cpu  100 0 100 800 0 0 0 0 0 0", None),
        ("nonsense", None),
    ],
    ids=["busy", "idle", "waiting for a disk is idle, stolen time is not", "no time has passed", "not told"],
)
def test_how_busy_the_cpus_were_since_the_last_look(tmp_path: Path, now: str, share: float | None) -> None:
    stat(tmp_path, "cpu  100 0 100 800 0 0 0 0 0 0")
    meter = CpuMeter(tmp_path)
    stat(tmp_path, now)
    assert meter.read() == share


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    meter = CpuMeter(tmp_path)
    assert (meter.read(), meter.read()) == (None, None)
    health = worker_health(tmp_path / "missing")
    assert (health.disk_free_bytes, health.disk_total_bytes) == (None, None)


def test_the_clock_is_compared_with_the_relays() -> None:
    """The answer was half a trip under way, and its header lost half a second on average."""
    skew = ClockSkew(clock=lambda: NOW + 60)
    skew.record(DATE, 4.0)
    assert skew.seconds == 60 - 2 - 0.5
    skew.record(DATE, None)
    assert skew.seconds == 60 - 2 - 0.5, "an answer that was held came as fast as the last one that was not"
    skew.record(DATE, 0.2)
    assert skew.seconds == 60 - 0.1 - 0.5


@pytest.mark.parametrize(("date", "trip_s"), [(None, 0.1), ("yesterday", 0.1), (DATE, 30.0)])
def test_an_answer_that_tells_nothing_of_the_clock(date: str | None, trip_s: float) -> None:
    skew = ClockSkew(clock=lambda: NOW)
    skew.record(date, trip_s)
    assert skew.seconds is None


def test_a_link_is_cut_once_until_it_is_back() -> None:
    link = Link()
    for _ in range(3):
        link.lost("no answer")
    link.suspect("a call failed")
    assert link.cuts == 1


async def test_a_link_that_is_lost_again_is_another_cut() -> None:
    link = Link()
    for _ in range(2):
        link.lost("no answer")
        link.answered()
    assert link.cuts == 2


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        (None, ProxyKind.DIRECT),
        ("http://proxy:3128", ProxyKind.HTTP),
        ("https://proxy:3129", ProxyKind.HTTPS),
    ],
)
def test_the_kind_of_proxy(url: str | None, kind: ProxyKind) -> None:
    assert proxy_kind(None if url is None else Proxy(url=url, source="proxy_url")) is kind
