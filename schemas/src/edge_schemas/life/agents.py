"""Which agent acts for a worker: the newest one, unless two use its credential at the same time.

Pure functions, and the only way a worker's entry changes. A cut, a restart, a repeat by a load balancer or a poll that
was delivered late must not be taken for a copied credential, and a copied credential must not cost a job.

There are two proofs that two agents run: two instances or two keys with one incarnation, which a restart never
produces; or a poll with `superseded_by`, which only an agent sends that still runs after it was replaced.
"""

from datetime import datetime, timedelta

from edge_schemas.life.model import Holder
from edge_schemas.wire.base import Instant
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.polls import MAX_POLL_TIMEOUT_S
from edge_schemas.wire.worker_entry import AgentSeen, CredentialConflict, WorkerEntry

ONE_POLL_TIMEOUT = timedelta(seconds=MAX_POLL_TIMEOUT_S + 10)
"""An older agent that still runs polls again within this time: its parked poll is answered `superseded` by then."""
TAKEOVER_RETRY_S = 2.0
MISSED_CONTACTS = 3
SHORTEST_CONTACT_S = 5.0
MAX_PREDECESSORS = 8


def arrive(current: WorkerEntry | None, new: WorkerEntry, *, superseded_by: int | None) -> WorkerEntry:
    """The entry after a poll arrived; the same object if it already has this arrival.

    Args:
        current: As stored.
        new: Made from the arriving poll alone.
        superseded_by: As in the poll; see `Poll`.

    Raises:
        EdgeError: `superseded`: a newer poll of this agent, or of a newer agent, has arrived.
    """
    if current is None:
        return new
    if current.conflict is not None:
        return _arrive_in_conflict(current, current.conflict, new, superseded_by)
    known, agent = current.agent, new.agent
    if known.arrival == agent.arrival:
        return current
    if is_same_agent(known, agent):
        if is_newer(known, agent):
            raise superseded(by=known)
        return _same_agent_polled(current, new)
    earlier = next((one for one in current.predecessors if is_same_agent(one, agent)), None)
    if earlier is not None and not is_newer(agent, earlier):
        raise superseded(by=known)  # a repeat of a poll from when it was the worker's agent
    if known.incarnation == agent.incarnation:
        return _with_conflict(new, older=known, newer=agent)
    if earlier is None and agent.incarnation > known.incarnation:
        return _taken_over(current, new)
    if superseded_by is not None and superseded_by != agent.incarnation:
        older, newer = sorted((agent, known), key=lambda one: one.incarnation)
        return _with_conflict(new, older=older, newer=newer)
    raise superseded(by=known)


def is_same_agent(one: AgentSeen, other: AgentSeen) -> bool:
    """Whether both polls came from one process. Instance and incarnation can be learned from a copy, the key can't."""
    same_key = one.key_hash == other.key_hash
    return same_key and (one.instance, one.incarnation) == (other.instance, other.incarnation)


def is_newer(one: AgentSeen, other: AgentSeen) -> bool:
    """Whether `one` is newer. Of two with the same numbers the later one is a repeat and replaces the earlier."""
    return (one.incarnation, one.seq) > (other.incarnation, other.seq)


def superseded(*, by: AgentSeen) -> EdgeError:
    """The answer to a poll that no longer counts."""
    return EdgeError(ErrorCode.SUPERSEDED, superseded_by=by.incarnation)


def current_arrival(entry: WorkerEntry, agent: AgentSeen) -> AgentSeen:
    """The newest poll of this agent, or of the agent that replaced it."""
    if entry.conflict is None:
        return entry.agent
    return _party(entry.conflict, agent) or _superseding(entry.conflict, agent)


def gets_jobs(entry: WorkerEntry, agent: AgentSeen) -> bool:
    """Whether this agent may be granted jobs; the newer of two agents with one credential may not."""
    return entry.conflict is None or _party(entry.conflict, agent) is entry.conflict.older


def leave(entry: WorkerEntry, arrival: str) -> WorkerEntry | None:
    """The entry after a poll's connection was closed before its answer; None if nothing changes."""
    if entry.agent.arrival == arrival and not entry.agent.left:
        return entry.model_copy(update={"agent": entry.agent.model_copy(update={"left": True})})
    others = tuple(one for one in entry.predecessors if one.arrival != arrival)
    return entry.model_copy(update={"predecessors": others}) if len(others) < len(entry.predecessors) else None


def has_taken_over(entry: WorkerEntry, now: datetime) -> bool:
    """Whether no earlier agent can still run, so that a job which this agent lacks is lost.

    Each earlier agent had the same state folder on the same machine since its boot, or has no parked poll, or has been
    silent for a whole poll timeout.
    """
    if entry.conflict is not None:
        return False
    if entry.taken_over_at is None:
        return True
    if entry.agent.last_poll_at < entry.taken_over_at:
        return False  # the entry has a poll of the agent against which an operator decided
    return not _perhaps_alive(entry, now)


def is_holding_agent(holder: Holder, incarnation: int, key_hash: str | None) -> bool:
    """Whether the agent that calls is the process that last started the job: it alone knows the key of that start."""
    if incarnation > holder.incarnation:
        return False
    return holder.key_hash is None or holder.key_hash == key_hash


def check_taken_over(entry: WorkerEntry | None, *, incarnation: int, key_hash: str | None, now: datetime) -> None:
    """Check that an agent may start again, or finish, a job that an earlier agent of its worker started.

    The agent finds the job's folder on its disk. If that disk is a copy, the job runs on the original machine, and the
    copy would end it or run it a second time.

    Raises:
        EdgeError: `takeover_pending`: an earlier agent may still run, or there is a conflict.
    """
    if entry is None or entry.agent.incarnation < incarnation or not has_taken_over(entry, now):
        raise takeover_pending()
    if entry.agent.key_hash is not None and entry.agent.key_hash != key_hash:
        raise takeover_pending()


def takeover_pending() -> EdgeError:
    """The answer to an agent that may not act for a job yet."""
    return EdgeError(ErrorCode.TAKEOVER_PENDING, retry_after_s=TAKEOVER_RETRY_S)


def resolve_conflict(entry: WorkerEntry, *, keep_newer: bool, at: Instant) -> WorkerEntry:
    """The entry after an operator decided which of two agents is the worker; the same object if there is no conflict.

    The other agent becomes a predecessor: if it still runs, this is found before any job is given up.
    """
    conflict = entry.conflict
    if conflict is None:
        return entry
    kept, dropped = (conflict.newer, conflict.older) if keep_newer else (conflict.older, conflict.newer)
    return entry.model_copy(
        update={"agent": kept, "conflict": None, "predecessors": (dropped,), "taken_over_at": at},
    )


def is_offline(entry: WorkerEntry, now: datetime) -> bool:
    """Whether the worker has missed several contacts in a row."""
    return now - entry.agent.last_poll_at > timedelta(seconds=offline_after_s(entry))


def offline_after_s(entry: WorkerEntry) -> float:
    """Seconds of silence after which the worker has missed several contacts in a row."""
    return MISSED_CONTACTS * max(entry.poll_timeout_s, SHORTEST_CONTACT_S)


def _same_agent_polled(current: WorkerEntry, new: WorkerEntry) -> WorkerEntry:
    """A further poll of the current agent."""
    if current.taken_over_at is None:
        return new
    alive = _perhaps_alive(current, new.agent.last_poll_at)
    return new.model_copy(update={"predecessors": alive, "taken_over_at": current.taken_over_at})


def _taken_over(current: WorkerEntry, new: WorkerEntry) -> WorkerEntry:
    """The first poll of a newer agent.

    If the replaced agent had predecessors that may still run, the newer one inherits them, and the time since when they
    have been silent: otherwise a restart would hide the agent whose folder was copied.
    """
    known, agent, at = current.agent, new.agent, new.agent.last_poll_at
    inherited = tuple(one for one in _perhaps_alive(current, at) if not _is_same_place(one, agent))
    is_gone = known.left or _is_same_place(known, agent)
    before = inherited if is_gone else (*inherited, known)
    since = current.taken_over_at if is_gone and inherited else at
    return new.model_copy(update={"predecessors": before[-MAX_PREDECESSORS:], "taken_over_at": since})


def _perhaps_alive(entry: WorkerEntry, now: datetime) -> tuple[AgentSeen, ...]:
    """The earlier agents that may still run."""
    is_over = entry.taken_over_at is None or now - entry.taken_over_at >= ONE_POLL_TIMEOUT
    return () if is_over else entry.predecessors


def _is_same_place(one: AgentSeen, other: AgentSeen) -> bool:
    """Whether both had the same state folder on the same machine since its boot, so that only one can run."""
    return bool(one.instance) and one.instance == other.instance


def _party(conflict: CredentialConflict, agent: AgentSeen) -> AgentSeen | None:
    """Which of the two an agent is, or has replaced; None if this is not certain for either."""
    parties = (conflict.older, conflict.newer)
    same = [one for one in parties if is_same_agent(one, agent)] or [
        one for one in parties if _is_same_place(one, agent)
    ]
    return same[0] if len(same) == 1 else None


def _party_replaced_by(conflict: CredentialConflict, agent: AgentSeen) -> AgentSeen:
    """Which of the two to replace by an unknown agent: one of them after a reboot, or a third one.

    A wrong guess only costs time: the agent that was replaced is then the unknown one, and comes back.
    """
    parties = (conflict.older, conflict.newer)
    for found in (
        [one for one in parties if one.host == agent.host],
        [one for one in parties if one.incarnation <= agent.incarnation],
    ):
        if len(found) == 1:
            return found[0]
    return min(parties, key=lambda one: one.last_poll_at)


def _superseding(conflict: CredentialConflict, unknown: AgentSeen) -> AgentSeen:
    """The agent to name to an unknown one: not an agent with its own incarnation, which would prove nothing."""
    return conflict.older if conflict.older.incarnation != unknown.incarnation else conflict.newer


def _arrive_in_conflict(
    current: WorkerEntry, conflict: CredentialConflict, new: WorkerEntry, superseded_by: int | None
) -> WorkerEntry:
    agent = new.agent
    party = _party(conflict, agent)
    if party is None:
        if superseded_by is None:
            raise superseded(by=_superseding(conflict, agent))  # it may be a poll from before a reboot
        party = _party_replaced_by(conflict, agent)
    elif party.arrival == agent.arrival:
        return current
    elif party.incarnation > agent.incarnation or (is_same_agent(party, agent) and is_newer(party, agent)):
        raise superseded(by=party)
    changed = conflict.model_copy(update={"older" if party is conflict.older else "newer": agent})
    return new.model_copy(update={"conflict": changed})


def _with_conflict(new: WorkerEntry, *, older: AgentSeen, newer: AgentSeen) -> WorkerEntry:
    return new.model_copy(
        update={"conflict": CredentialConflict(older=older, newer=newer, since=new.agent.last_poll_at)}
    )
