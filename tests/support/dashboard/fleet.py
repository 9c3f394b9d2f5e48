"""A fleet that exists in memory only: what the fake API shows and changes."""

import random
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from edge_schemas.admin.access import AccessScope, AccessTokenRow, EnrollTokenRow, Role
from edge_schemas.admin.audit import Actor, ActorKind, AuditEvent, TargetKind
from edge_schemas.admin.desired import AvailabilityOrder, DesiredQueue
from edge_schemas.admin.rows import JobRow, QueueRow, SiteRow, SiteState, WorkerJob, WorkerRow
from edge_schemas.life.model import JobState
from edge_schemas.wire.worker_report import JobPhase, ProxyKind, StoredHealth, StoredVersions
from edge_schemas.wire.workers import Availability, WorkerState

NASTY = "<script>alert('queue')</script>"
NASTY_HOST = '"><img src=x onerror=alert(1)>'
NASTY_REASON = "<b>firmware</b> & 'tests' </script><script>alert(2)</script>"
GIB = 1 << 30
AVAILABLE_STATES = {"pause": WorkerState.PAUSED, "drain": WorkerState.DRAINING, "stop": WorkerState.DRAINING}
ORDERED = {"pause": Availability.PAUSED, "drain": Availability.DRAINING, "stop": Availability.STOPPED}


def now() -> datetime:
    """The clock of the fake."""
    return datetime.now(UTC)


def ago(seconds: float) -> datetime:
    """A moment so many seconds ago."""
    return now() - timedelta(seconds=seconds)


@dataclass
class Fleet:
    """Workers, queues, jobs, tokens and the audit. Sites and the overview are computed from them."""

    workers: dict[str, WorkerRow] = field(default_factory=dict)
    queues: dict[str, QueueRow] = field(default_factory=dict)
    jobs: dict[str, JobRow] = field(default_factory=dict)
    site_orders: dict[str, AvailabilityOrder] = field(default_factory=dict)
    enroll_tokens: dict[str, EnrollTokenRow] = field(default_factory=dict)
    access_tokens: dict[str, AccessTokenRow] = field(default_factory=dict)
    audit: list[AuditEvent] = field(default_factory=list)
    missing: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """What keeps a worker from running jobs."""

    def record(self, action: str, kind: TargetKind, target: str, **rest: object) -> None:
        """An event, the newest first."""
        values: dict[str, object] = {"actor": Actor(kind=ActorKind.OPERATOR, name="anna", by="token"), **rest}
        event = {"sequence": len(self.audit) + 1, "at": now(), "action": action, "target_kind": kind, "target": target}
        self.audit.insert(0, AuditEvent.model_validate(event | values))

    def change_worker(self, name: str, **changes: object) -> None:
        """Sets fields of a worker's row."""
        self.workers[name] = self.workers[name].model_copy(update=changes)

    def apply_settings(self) -> None:
        """Every worker applies what operators want, as after a poll."""
        for name, row in self.workers.items():
            self.change_worker(name, applied_version=row.settings_version)

    def sites(self) -> list[SiteRow]:
        """A row for each site, from its workers."""
        names = sorted({row.site for row in self.workers.values()})
        return [self._site(name, [row for row in self.workers.values() if row.site == name]) for name in names]

    def _site(self, name: str, rows: list[WorkerRow]) -> SiteRow:
        offline = [row for row in rows if row.state is WorkerState.OFFLINE]
        state = SiteState.ONLINE if not offline else SiteState.DEGRADED
        together = 0
        if len(offline) == len(rows):
            state, together = SiteState.OFFLINE, len(rows)
        seen = [row.last_poll_at for row in offline if row.last_poll_at]
        return SiteRow(
            site=name,
            state=state,
            since=min(seen) if seen else ago(86400 * 3),
            order=self.site_orders.get(name),
            workers=len(rows),
            online=len([row for row in rows if row.state is WorkerState.ONLINE]),
            offline=len(offline),
            paused=len([row for row in rows if row.state is WorkerState.PAUSED]),
            slots=sum(row.slots or 0 for row in rows),
            running=sum(row.running or 0 for row in rows),
            lost_together=together if together > 1 else 0,
        )

    def jobs_of(self, worker: str) -> tuple[WorkerJob, ...]:
        """Those that it runs."""
        return tuple(
            WorkerJob(
                job=row.job,
                phase=JobPhase.RUNNING,
                queue=row.queue,
                task=row.task,
                dag_id=row.dag_id,
                run_id=row.run_id,
                task_id=row.task_id,
                map_index=row.map_index,
                try_number=row.try_number,
                started_at=row.started_at,
            )
            for row in self.jobs.values()
            if row.worker == worker
        )


def small_fleet(workers: int = 40) -> Fleet:
    """A fleet of some sites in which something is wrong with a few workers; the same each time."""
    chance = random.Random(7)
    fleet = Fleet()
    sites = ["plant-hamburg", "plant-lyon", "plant-osaka", "shop-0412", "clinic-north"]
    for index in range(workers):
        fleet.workers[f"edge-{index:04d}"] = _worker(index, sites[index % len(sites)], chance)
    if workers >= len(sites):
        _trouble(fleet)
    _queues(fleet, chance)
    _jobs(fleet, chance)
    _hold_jobs(fleet)
    _tokens(fleet)
    return fleet


def _worker(index: int, site: str, chance: random.Random) -> WorkerRow:
    slots = chance.choice([2, 4, 8])
    running = chance.randint(0, slots)
    return WorkerRow(
        worker=f"edge-{index:04d}",
        site=site,
        queues=("vision", "quality") if index % 3 else ("vision", "reports", "maintenance"),
        labels={"line": str(index % 4 + 1), "vendor": "acme"},
        state=WorkerState.ONLINE,
        state_since=ago(chance.randint(600, 90000)),
        settings_version=3,
        applied_version=3,
        enrolled_at=ago(86400 * chance.randint(2, 200)),
        last_poll_at=ago(chance.uniform(1, 20)),
        hostname=f"ipc-{site}-{index:02d}.example.internal",
        address=f"10.20.{index % 250}.7",
        incarnation=chance.randint(1, 40),
        slots=slots,
        free=slots - running,
        running=running,
        granted=0,
        tolerance_s=900.0,
        versions=StoredVersions(agent="0.1.0", python="3.12.8", airflow="3.1.7", platform="Linux-6.1-x86_64"),
        health=StoredHealth(
            cpu_busy_ratio=round(chance.uniform(0.05, 0.9), 2),
            load_1m=round(chance.uniform(0.1, 4), 2),
            memory_used_bytes=chance.randint(1, 7) * GIB,
            memory_total_bytes=8 * GIB,
            disk_free_bytes=chance.randint(20, 200) * GIB,
            disk_total_bytes=256 * GIB,
            link_cuts=chance.randint(0, 9),
            held_calls=0,
            log_lag_bytes=chance.randint(0, 4000),
            clock_skew_s=round(chance.uniform(-0.4, 0.4), 2),
            proxy=ProxyKind.HTTP,
        ),
        proxy=chance.choice(["direct", "http", "https"]),
        relay="relay-1",
    )


def _trouble(fleet: Fleet) -> None:
    """One site has lost its uplink; single workers are paused, unhealthy, in conflict, revoked or never seen."""
    order = AvailabilityOrder(
        availability=Availability.PAUSED,
        reason=NASTY_REASON,
        by="anna",
        since=ago(3600),
        until=now() + timedelta(hours=7),
    )
    for name, row in list(fleet.workers.items()):
        if row.site == "plant-osaka":
            lost = {"state": WorkerState.OFFLINE, "last_poll_at": ago(2520), "state_since": ago(2400)}
            fleet.change_worker(name, **lost)
    fleet.change_worker("edge-0000", state=WorkerState.PAUSED, order=order, settings_version=4, hostname=NASTY_HOST)
    if len(fleet.workers) < 12:
        return
    full = "the disk is full: 1.2 GiB free, 2 GiB needed; delete files or enlarge the disk"
    fleet.change_worker("edge-0004", state=WorkerState.UNHEALTHY, problems=(full,), no_jobs_reason="disk full", free=0)
    fleet.change_worker("edge-0005", state=WorkerState.CONFLICT, conflict=("ipc-a (10.20.5.7)", "ipc-b (10.20.5.99)"))
    fleet.change_worker("edge-0006", state=WorkerState.REVOKED, slots=None, running=None)
    fleet.missing["edge-0008"] = ("The agent has never polled: start it with 'edge-worker run' and read its log.",)
    never = {"last_poll_at": None, "slots": None, "running": None, "versions": None, "health": None, "proxy": None}
    fleet.change_worker("edge-0008", state=WorkerState.NEVER_SEEN, applied_version=None, incarnation=None, **never)


def _queues(fleet: Fleet, chance: random.Random) -> None:
    names = ["maintenance", "quality", "reports", "vision"]
    if fleet.workers:
        names.append(NASTY)
    for name in names if fleet.workers else []:
        able = [row for row in fleet.workers.values() if name in row.queues]
        fleet.queues[name] = QueueRow(
            queue=name,
            settings=DesiredQueue(),
            held_back=chance.randint(0, 1400) if name == "vision" else 0,
            waiting=chance.randint(0, 40),
            granted=chance.randint(0, 3),
            running=chance.randint(0, 60),
            oldest_at=ago(chance.randint(10, 9000)),
            redeliveries=chance.randint(0, 4),
            dead=0,
            workers=len(able),
            workers_able=len([row for row in able if row.free]),
            free_slots=sum(row.free or 0 for row in able),
            in_per_minute=tuple(chance.randint(0, 12) for _ in range(60)),
            out_per_minute=tuple(chance.randint(0, 12) for _ in range(60)),
        )
    if "reports" in fleet.queues:
        order = AvailabilityOrder(
            availability=Availability.PAUSED, reason="month end: reports must wait", by="ben", since=ago(1800)
        )
        settings = DesiredQueue(version=2, order=order, tolerance_s=7200, max_running=20)
        fleet.queues["reports"] = fleet.queues["reports"].model_copy(update={"settings": settings, "dead": 3})


def _jobs(fleet: Fleet, chance: random.Random) -> None:
    dags = [("inspect_parts", "classify"), ("quality_report", "render"), ("nightly_maintenance", "vacuum_press_line")]
    online = [row for row in fleet.workers.values() if row.state is WorkerState.ONLINE]
    for index in range(140 if online else 0):
        dag, task = dags[index % 3]
        runs = index % 2 == 0
        dead = index in {5, 11, 17}
        holder = online[index * index % len(online)]
        job = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        created = ago(chance.randint(30, 9000))
        fleet.jobs[job] = JobRow(
            job=job,
            queue=NASTY if index == 7 else ["vision", "reports", "quality", "maintenance"][index % 4],
            state=JobState.RUNNING if runs and not dead else JobState.WAITING,
            task=f"{dag}.{task}[{index % 9}]",
            dag_id=dag,
            run_id=f"scheduled__2026-11-29T{index % 24:02d}:00:00+00:00",
            task_id=task,
            map_index=index % 9,
            try_number=1 + index % 2,
            created_at=created,
            waits_since=None if runs and not dead else created,
            worker=holder.worker if runs and not dead else None,
            site=holder.site if runs and not dead else None,
            started_at=created + timedelta(seconds=4) if runs and not dead else None,
            parked="released 5 times: the runtime has no bundle 'factory'" if dead else None,
            releases=5 if dead else 0,
        )


def _hold_jobs(fleet: Fleet) -> None:
    """The rows of workers that are online count and name their jobs."""
    for name, row in list(fleet.workers.items()):
        if row.state is WorkerState.ONLINE:
            jobs = fleet.jobs_of(name)
            slots = max(row.slots or 0, len(jobs))
            fleet.change_worker(name, jobs=jobs[:3], running=len(jobs), slots=slots, free=slots - len(jobs))


def _tokens(fleet: Fleet) -> None:
    fleet.access_tokens["3f9c2a71b0de"] = AccessTokenRow(
        id="3f9c2a71b0de",
        name="anna",
        role=Role.ADMIN,
        scope=AccessScope(),
        created_at=ago(86400 * 12),
        expires_at=now() + timedelta(days=78),
        last_used_at=ago(120),
    )
    fleet.access_tokens["81aa40c2e7f5"] = AccessTokenRow(
        id="81aa40c2e7f5",
        name="wall display, Lyon",
        role=Role.VIEWER,
        scope=AccessScope(sites=("plant-lyon",)),
        created_at=ago(86400 * 40),
        expires_at=ago(86400),
    )
    fleet.enroll_tokens["c01d77e2a9b4"] = EnrollTokenRow(
        id="c01d77e2a9b4",
        site="plant-lyon",
        queues=("vision", "quality"),
        uses=10,
        used=8,
        workers=tuple(f"edge-{index:04d}" for index in range(8)),
        expires_at=now() + timedelta(hours=20),
    )
    if fleet.workers:
        before, after = {"order": None}, {"order": {"availability": "paused"}}
        target = next(iter(fleet.workers))
        fleet.record(
            "worker-paused", TargetKind.WORKER, target, before=before, after=after, reason=NASTY_REASON, at=ago(3600)
        )
        fleet.record(
            "queue-paused", TargetKind.QUEUE, "reports", queue="reports", reason="month end", before=before, after=after
        )
        system = Actor(kind=ActorKind.SYSTEM, name="relay-1")
        fleet.record(
            "site-offline", TargetKind.SITE, "plant-osaka", site="plant-osaka", actor=system, facts={"workers": 8}
        )
