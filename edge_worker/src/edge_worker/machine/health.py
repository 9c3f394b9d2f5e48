"""Figures of this machine and of the agent, for operators. Unknown figures are left out."""

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from shutil import disk_usage

from edge_schemas.wire.worker_report import ProxyKind, WorkerHealth, WorkerVersions
from edge_worker import __version__
from edge_worker.relay.clock_skew import ClockSkew
from edge_worker.relay.link import Link
from edge_worker.relay.proxy import Proxy

PROC = Path("/proc")


def worker_versions(airflow: str | None) -> WorkerVersions:
    """The versions of the agent, of Python, Airflow and the platform."""
    return WorkerVersions(
        agent=__version__,
        python=platform.python_version(),
        airflow=airflow[:120] if airflow else None,
        platform=f"{platform.system()} {platform.release()} {platform.machine()}"[:120],
    )


def worker_health(state_dir: Path) -> WorkerHealth:
    """Load, memory and disk."""
    total, available = _memory()
    size, free = _disk(state_dir)
    return WorkerHealth(
        load_1m=_load(),
        memory_total_bytes=total,
        memory_used_bytes=None if total is None or available is None else max(0, total - available),
        disk_free_bytes=free,
        disk_total_bytes=size,
    )


class CpuMeter:
    """How busy the CPUs of the machine were between two readings."""

    def __init__(self, proc: Path = PROC) -> None:
        self._file = proc / "stat"
        self._last = self._read()

    def read(self) -> float | None:
        """The share since the last reading; None if no time has passed, or the machine does not provide it."""
        before, now = self._last, self._read()
        self._last = now
        if before is None or now is None:
            return None
        busy, passed = now[0] - before[0], now[1] - before[1]
        # Counters of a single CPU may decrease a little if it was removed or idle.
        return round(min(1.0, max(0.0, busy / passed)), 3) if passed > 0 else None

    def _read(self) -> tuple[int, int] | None:
        """Busy time and total time of all CPUs since boot."""
        try:
            with self._file.open() as file:
                fields = [int(text) for text in file.readline().split()[1:9]]
            idle = fields[3] + fields[4]
        except (OSError, ValueError, IndexError):
            return None
        return sum(fields) - idle, sum(fields)


@dataclass
class AgentHealth:
    """The figures that are reported with each poll.

    Attributes:
        state_dir: The state folder, whose disk is reported.
        proxy: Used for the relay.
        held_calls: Counts the calls of tasks that wait now.
        log_lag_bytes: Counts the log bytes that wait to be uploaded.
    """

    state_dir: Path
    proxy: Proxy | None
    link: Link
    skew: ClockSkew
    held_calls: Callable[[], int]
    log_lag_bytes: Callable[[], int | None]
    _cpu: CpuMeter = field(default_factory=CpuMeter, init=False)

    def read(self) -> WorkerHealth:
        """The present figures."""
        return worker_health(self.state_dir).model_copy(
            update={
                "cpu_busy_ratio": self._cpu.read(),
                "link_cuts": self.link.cuts,
                "held_calls": self.held_calls(),
                "log_lag_bytes": self.log_lag_bytes(),
                "clock_skew_s": self.skew.seconds,
                "proxy": proxy_kind(self.proxy),
            }
        )


def proxy_kind(proxy: Proxy | None) -> ProxyKind:
    """The kind of proxy between worker and relay."""
    if proxy is None:
        return ProxyKind.DIRECT
    return ProxyKind.HTTPS if proxy.url.startswith("https://") else ProxyKind.HTTP


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def _disk(path: Path) -> tuple[int | None, int | None]:
    try:
        found = disk_usage(path)
    except OSError:
        return None, None
    return found.total, found.free


def _memory() -> tuple[int | None, int | None]:
    try:
        lines = (PROC / "meminfo").read_text().splitlines()
    except OSError:
        return None, None
    values = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines) if rest}
    return values.get("MemTotal"), values.get("MemAvailable")
