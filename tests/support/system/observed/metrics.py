"""The expected series of a scrape, counted while a test runs, and compared with every series of the scrape."""

import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from typing_extensions import override

from edge_schemas.wire import routes
from support.relay.edge import Edge, Reply

Series = tuple[str, frozenset[tuple[str, str]]]
"""A sample's name and labels."""
Check = Callable[[float], bool]

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_ROUTES = (
    (rf"/v1/jobs/{_UUID}/execution/.*", "/v1/jobs/{job}/execution/{path}"),
    (rf"/v1/jobs/{_UUID}/(start|finish|release|log)", r"/v1/jobs/{job}/\1"),
    (rf"/v1/admin/jobs/{_UUID}", "/v1/admin/jobs/{job}"),
    (r"/v1/admin/workers/[^/]+/(revoke|resolve)", r"/v1/admin/workers/{worker}/\1"),
)


def series(name: str, **labels: str) -> Series:
    """A key of a scrape."""
    return name, frozenset(labels.items())


def parse(text: str) -> dict[Series, float]:
    """Every series of a scrape, as Prometheus reads it."""
    found: dict[Series, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = series(sample.name, **sample.labels)
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


@dataclass
class Times:
    """Observations of a histogram: how many, and between what bounds their sum must be."""

    count: int = 0
    low: float = 0.0
    high: float = 0.0

    def add(self, low: float, high: float) -> None:
        self.count += 1
        self.low += max(0.0, low)
        self.high += high


@dataclass
class Ledger:
    """The expected series of one replica.

    Attributes:
        exact: Values.
        times: Histograms, by name and labels.
        checks: Where only a bound can be known.
    """

    exact: Counter[Series] = field(default_factory=Counter)
    times: dict[Series, Times] = field(default_factory=lambda: defaultdict(Times))
    checks: dict[Series, Check] = field(default_factory=dict)

    def count(self, name: str, by: float = 1, /, **labels: str) -> None:
        """Something was counted; with 0 the series is there from the beginning."""
        self.exact[series(name, **labels)] += by  # type: ignore[assignment]  # a float is as good

    def set(self, name: str, value: float | Check | None, /, **labels: str) -> None:
        """A gauge has this value, one that passes the check, or is not there."""
        key = series(name, **labels)
        if callable(value):
            self.checks[key] = value
        elif value is not None:
            # Callables were handled above.
            self.exact[key] = value  # type: ignore[assignment]

    def took(self, name: str, low: float, high: float, /, **labels: str) -> None:
        """A histogram got an observation between these bounds."""
        self.times[series(name, **labels)].add(low, high)

    def differences(self, found: Mapping[Series, float]) -> list[str]:
        """Wrong, missing and unexpected series; empty if the scrape is exact and complete."""
        rest = dict(found)
        wrong = []
        for key, value in self.exact.items():
            got = rest.pop(key, None)
            if got != value:
                wrong.append(f"{_name(key)} is {got}, must be {value}")
        for key, check in self.checks.items():
            got = rest.pop(key, None)
            if got is None or not check(got):
                wrong.append(f"{_name(key)} is {got}")
        for key, times in self.times.items():
            wrong += _histogram_differences(key, times, rest)
        return wrong + [f"{_name(key)} is {value}, and was not compared" for key, value in rest.items()]


def _histogram_differences(key: Series, times: Times, rest: dict[Series, float]) -> list[str]:
    name, labels = key
    count, total = rest.pop((f"{name}_count", labels), None), rest.pop((f"{name}_sum", labels), None)
    own = [one for one in rest if one[0] == f"{name}_bucket" and labels == {p for p in one[1] if p[0] != "le"}]
    buckets = sorted((float(dict(one[1])["le"]), rest.pop(one)) for one in own)
    wrong = []
    if count != times.count:
        wrong.append(f"{_name(key)} has {count} observations, must have {times.count}")
    elif total is None or not times.low - 1e-6 <= total <= times.high + 1e-6:
        wrong.append(f"{_name(key)} sums up to {total}, must be between {times.low} and {times.high}")
    numbers = [number for _, number in buckets]
    if not numbers or numbers != sorted(numbers) or numbers[-1] != times.count:
        wrong.append(f"{_name(key)} has buckets {buckets}")
    return wrong


def _name(key: Series) -> str:
    return f"{key[0]}{dict(sorted(key[1]))}"


class ObservedEdge(Edge):
    """Counts each call; the relay's own counts of calls must agree."""

    ledgers: list[Ledger]

    @override
    async def call(self, method: str, path: str, *args: Any, replica: int = 0, **more: Any) -> Reply:
        began = time.monotonic()
        reply = await super().call(method, path, *args, replica=replica, **more)
        self.called(path, reply.status, time.monotonic() - began, replica)
        return reply

    def called(self, path: str, status: int, seconds: float, replica: int) -> None:
        """A call got this answer after so long."""
        route = path.partition("?")[0]
        for pattern, template in _ROUTES:
            route = re.sub(f"^{pattern}$", template, route)
        ledger = self.ledgers[replica]
        ledger.count("edge_relay_requests_total", route=route, status=str(status))
        if route != routes.POLL:
            ledger.took("edge_relay_request_seconds", 0, seconds, route=route)

    async def scrape(self, replica: int) -> str:
        """A scrape of a replica; it does not count itself."""
        reply = await super().call("GET", routes.METRICS, operators=True, replica=replica)
        assert reply.status == 200
        assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return reply.body.decode()
