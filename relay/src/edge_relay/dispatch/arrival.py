"""The arrival of a poll: whether its report can be accepted, and the worker's entry that it writes."""

import math
import os
from datetime import UTC, datetime
from operator import attrgetter

import structlog

from edge_broker.audit import Audit
from edge_relay.dispatch.polls import ParkedPoll
from edge_relay.identity.principals import Principal
from edge_schemas.admin.audit import TargetKind
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.polls import SUPPORTED_PROTOCOLS, Poll
from edge_schemas.wire.worker_entry import AgentSeen, WorkerEntry

log = structlog.get_logger(__name__)


def check_report(report: Poll) -> None:
    """Check what the model can't express.

    Raises:
        EdgeError: `protocol_unsupported` or `invalid_request`.
    """
    if report.protocol not in SUPPORTED_PROTOCOLS:
        served = ", ".join(map(str, SUPPORTED_PROTOCOLS))
        raise EdgeError(ErrorCode.PROTOCOL_UNSUPPORTED, f"this relay serves protocol {served}")
    if report.free > report.slots:
        raise EdgeError(ErrorCode.INVALID_REQUEST, "free: must not exceed slots")
    if not math.isfinite(report.poll_timeout_s):
        raise EdgeError(ErrorCode.INVALID_REQUEST, "poll_timeout_s: must be a number")
    if len({job.id for job in report.jobs}) != len(report.jobs):
        raise EdgeError(ErrorCode.INVALID_REQUEST, "jobs: a job is listed twice")


def poll_timeout_s(report: Poll, longest_s: float) -> float:
    """How long a poll may wait: a long wait would leave too few contacts before a job's fence comes down."""
    contracts = (job.offline for job in report.jobs if job.offline is not None)
    strictest = min(contracts, key=attrgetter("tolerance_s"), default=None)
    limit = math.inf if strictest is None else strictest.longest_poll_timeout_s
    return min(report.poll_timeout_s, longest_s, limit)


def agent_seen(report: Poll, address: str | None, key_hash: str | None = None) -> AgentSeen:
    """The agent that polls, with a new arrival."""
    return AgentSeen(
        instance=report.instance,
        incarnation=report.incarnation,
        seq=report.seq,
        arrival=os.urandom(16).hex(),
        host=report.host,
        address=address or "",
        last_poll_at=datetime.now(UTC),
        key_hash=key_hash,
    )


def worker_entry(principal: Principal, parked: ParkedPoll, *, relay: str, longest_s: float) -> WorkerEntry:
    """The worker's entry as an arriving poll writes it.

    Args:
        principal: The worker.
        parked: Its poll.
        relay: The name of this replica.
        longest_s: How long this replica lets a poll wait at most.
    """
    report = parked.poll
    return WorkerEntry(
        worker=principal.worker,
        site=principal.site,
        team=principal.team,
        queues=principal.settings.queues,
        settings_version=report.settings_version,
        agent=parked.agent,
        relay=relay,
        poll_timeout_s=poll_timeout_s(report, longest_s),
        slots=report.slots,
        free=report.free,
        draining=report.draining,
        no_jobs_reason=report.no_jobs_reason,
        auxiliary=report.auxiliary,
        kinds=report.kinds,
        jobs=report.jobs,
        versions=report.versions,
        health=report.health,
    )


async def report_conflict(audit: Audit, entry: WorkerEntry, agent: AgentSeen) -> None:
    """Report that two agents use one credential: once, at the arrival that revealed it."""
    conflict = entry.conflict
    if conflict is None or conflict.since != agent.last_poll_at:
        return
    facts = {
        f"{side}_{name}": str(getattr(seen, name))
        for side, seen in (("older", conflict.older), ("newer", conflict.newer))
        for name in ("host", "address", "incarnation")
    }
    log.error("credential_copied", worker=entry.worker, **facts)
    await audit.record("credential-copied", TargetKind.WORKER, entry.worker, site=entry.site, facts=facts)
