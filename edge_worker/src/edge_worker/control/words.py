"""What the owner's commands print for people."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from edge_schemas.wire.workers import Availability
from edge_worker.control.protocol import AgentStatus, BundleFetch, OwnPause

_UNITS = (("d", 86400), ("h", 3600), ("min", 60))
_SIZES = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))


def status_lines(status: AgentStatus, now: datetime) -> Iterator[str]:
    """An agent that runs."""
    yield from facts(_facts(status, now))
    if status.jobs:
        yield ""
        rows = [
            (
                job.job,
                job.phase.value if job.frozen_since is None else f"frozen for {span(now, job.frozen_since)}",
                "-" if job.since is None else span(now, job.since),
                job.queue,
                job.task,
                job.log,
            )
            for job in status.jobs
        ]
        yield from table(("JOB", "PHASE", "FOR", "QUEUE", "TASK", "LOG"), rows)


def pause_text(pause: OwnPause, now: datetime) -> str:
    """The owner's pause."""
    return f"paused by {pause.by} for {span(now, pause.since)}: {pause.reason or 'no reason was given'}"


def facts(found: Iterator[tuple[str, str]]) -> Iterator[str]:
    """Names and values, one on each line."""
    for name, value in found:
        yield f"{name.ljust(10)}  {printable(value)}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Aligned columns."""
    lines = [header, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def printable(text: str) -> str:
    """The text without control characters for terminals: names and reasons come from others."""
    return "".join(char if char.isprintable() or char == "\t" else "?" for char in text)


def span(now: datetime, since: datetime) -> str:
    """How long it has lasted, in the largest unit of which there are at least two."""
    seconds = max(0, int((now - since).total_seconds()))
    for unit, size in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def size(value: int | None) -> str:
    """Bytes in a unit that suits them."""
    if value is None:
        return "?"
    for unit, factor in _SIZES:
        if value >= factor:
            return f"{value / factor:.1f} {unit}"
    return f"{value} bytes"


def _facts(status: AgentStatus, now: datetime) -> Iterator[tuple[str, str]]:
    health, versions = status.health, status.versions
    team = "" if status.team is None else f", team {status.team}"
    yield "worker", f"{status.worker} at site {status.site}{team}"
    yield "agent", f"runs for {span(now, status.began_at)}, process {status.pid}, incarnation {status.incarnation}"
    yield "relay", f"{status.relay}, {'directly' if status.proxy is None else f'through {status.proxy}'}"
    yield "link", _link(status, now)
    if status.stage != "run":
        yield "ends", {"drain": "it drains"}.get(status.stage, "its jobs are stopped")
    free = f"yes, {status.free} of {status.slots} slots are free"
    yield "takes jobs", free if status.refusal is None else f"no: {status.refusal}"
    yield "centre", _wanted(status)
    yield "owner", "nothing is set" if status.own_pause is None else pause_text(status.own_pause, now)
    yield "queues", ", ".join(status.queues)
    for fetch in status.fetches:
        yield "fetches", _fetch(fetch)
    yield "settings", f"version {status.settings_version}"
    waits = "" if health.log_lag_bytes is None else f", {size(health.log_lag_bytes)} wait for their upload"
    yield "spool", f"ended jobs take {size(status.ended_jobs_bytes)} of {size(status.spool_max_bytes)}{waits}"
    yield "disk", f"{size(health.disk_free_bytes)} of {size(health.disk_total_bytes)} are free"
    load = "?" if health.load_1m is None else f"{health.load_1m:g}"
    yield "machine", f"load {load}, memory {size(health.memory_used_bytes)} of {size(health.memory_total_bytes)}"
    runtime = "no runtime is ready" if versions.airflow is None else f"Airflow {versions.airflow}"
    yield "versions", f"agent {versions.agent}, Python {versions.python}, {runtime}, {versions.platform}"
    yield "state", status.state_dir


def _fetch(fetch: BundleFetch) -> str:
    progress = f"{fetch.done} of {fetch.pieces} pieces" if fetch.pieces else "its list of files"
    jobs = "1 job waits" if fetch.jobs == 1 else f"{fetch.jobs} jobs wait"
    return f"{progress} of version {fetch.digest[:12]} of bundle {fetch.bundle}, {size(fetch.received)}; {jobs}"


def _link(status: AgentStatus, now: datetime) -> str:
    if status.link == "untried":
        return "the relay has not answered yet"
    last = "" if status.last_answer_at is None else f", the last answer came {span(now, status.last_answer_at)} ago"
    cuts = f", lost {status.health.link_cuts} times" if status.health.link_cuts else ""
    return f"{status.link} for {span(now, status.link_since)}{last}{cuts}"


def _wanted(status: AgentStatus) -> str:
    if status.wanted is Availability.ACTIVE:
        return "active"
    until = "" if status.wanted_until is None else f" until {status.wanted_until.astimezone(UTC):%F %T} UTC"
    return f"{status.wanted.value}{until}: {status.wanted_reason or 'no reason was given'}"
