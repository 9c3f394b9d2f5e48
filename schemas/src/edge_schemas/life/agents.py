"""Which agent speaks for a worker: the newest one, unless two live at once with one credential.

Pure, and the only way a worker's entry changes. A cut, a restart, a repeat by a load balancer and a poll that was
delivered late must none of them look like a copied credential, and a copied credential must not cost a job.

Proof that two agents live is one of: two instances with one incarnation, which a restart never makes; or a poll of an
agent that says in whose favour it was turned away, which only the living say.
"""

from datetime import datetime, timedelta

from edge_schemas.wire.base import Instant
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.polls import MAX_POLL_TIMEOUT_S, AgentSeen, CredentialConflict, WorkerEntry

ONE_POLL_TIMEOUT = timedelta(seconds=MAX_POLL_TIMEOUT_S + 10)
"""An older agent that lives polls again within this: its parked poll ends, and it is told that it is superseded."""
TAKEOVER_RETRY_S = 2.0
MISSED_CONTACTS = 3
SHORTEST_CONTACT_S = 5.0
MAX_PREDECESSORS = 8


def arrive(current: WorkerEntry | None, new: WorkerEntry, *, superseded_by: int | None) -> WorkerEntry:
    """The entry after a poll arrived; the very same object if this arrival is in it already.

    Args:
        current: As stored.
        new: Made of the arriving poll alone.
        superseded_by: What the poll says: see `Poll`.

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
        return _carried_on(current, new)
    former = next((one for one in current.predecessors if is_same_agent(one, agent)), None)
    if former is not None and not is_newer(agent, former):
        raise superseded(by=known)  # a repeat of what it said while it was the worker's agent
    if known.incarnation == agent.incarnation:
        return _in_conflict(new, older=known, newer=agent)
    if former is None and agent.incarnation > known.incarnation:
        return _taken_over(current, new)
    if superseded_by is not None and superseded_by != agent.incarnation:
        older, newer = sorted((agent, known), key=lambda one: one.incarnation)
        return _in_conflict(new, older=older, newer=newer)
    raise superseded(by=known)


def is_same_agent(one: AgentSeen, other: AgentSeen) -> bool:
    """Whether both polls came from one process."""
    return (one.instance, one.incarnation) == (other.instance, other.incarnation)


def is_newer(one: AgentSeen, other: AgentSeen) -> bool:
    """Whether `one` is newer. Of two with the same numbers the later arrival is a repeat that takes over."""
    return (one.incarnation, one.seq) > (other.incarnation, other.seq)


def superseded(*, by: AgentSeen) -> EdgeError:
    """The answer to a poll that no longer counts."""
    return EdgeError(ErrorCode.SUPERSEDED, superseded_by=by.incarnation)


def current_arrival(entry: WorkerEntry, agent: AgentSeen) -> AgentSeen:
    """The newest poll of this agent, or of the one that took its place."""
    if entry.conflict is None:
        return entry.agent
    return _side(entry.conflict, agent) or _instead_of(entry.conflict, agent)


def gets_jobs(entry: WorkerEntry, agent: AgentSeen) -> bool:
    """Whether this agent may be granted jobs: not if it is the newer of two that use one credential."""
    return entry.conflict is None or _side(entry.conflict, agent) is entry.conflict.older


def leave(entry: WorkerEntry, arrival: str) -> WorkerEntry | None:
    """The entry after a poll's connection was closed before its answer; None if that is no news any more."""
    if entry.agent.arrival == arrival and not entry.agent.left:
        return entry.model_copy(update={"agent": entry.agent.model_copy(update={"left": True})})
    alive = tuple(one for one in entry.predecessors if one.arrival != arrival)
    return entry.model_copy(update={"predecessors": alive}) if len(alive) < len(entry.predecessors) else None


def has_taken_over(entry: WorkerEntry, now: datetime) -> bool:
    """Whether the agent certainly stands alone, so that a job which it lacks is lost.

    Each agent before it had the same state folder on the same machine since its boot, or has no parked poll, or has
    said nothing for a whole hold.
    """
    if entry.conflict is not None:
        return False
    if entry.taken_over_at is None:
        return True
    if entry.agent.last_poll_at < entry.taken_over_at:
        return False  # the other one of two that an operator decided between sent what the entry says
    return not _perhaps_alive(entry, now)


def check_taken_over(entry: WorkerEntry | None, *, holder: int, incarnation: int, now: datetime) -> None:
    """Whether an agent may start anew, or settle, a job that an older incarnation of its worker started.

    It finds the job's folder on its disk. If that disk is a copy, the job runs elsewhere, and would be ended, or run
    again, by somebody who knows nothing of it.

    Raises:
        EdgeError: `takeover_pending`: not certain yet, or in conflict.
    """
    if incarnation <= holder:
        return
    known = entry is not None and entry.agent.incarnation >= incarnation
    if not known or entry is None or not has_taken_over(entry, now):
        raise EdgeError(ErrorCode.TAKEOVER_PENDING, retry_after_s=TAKEOVER_RETRY_S)


def resolve(entry: WorkerEntry, *, keep_newer: bool, at: Instant) -> WorkerEntry:
    """The entry after an operator decided which of two agents is the worker; the same object if there is no conflict.

    Should the other live on, it shows before anything is given up: it is a predecessor from here on.
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


def _carried_on(current: WorkerEntry, new: WorkerEntry) -> WorkerEntry:
    """A further poll of the worker's agent."""
    before = _perhaps_alive(current, new.agent.last_poll_at)
    return new.model_copy(update={"predecessors": before, "taken_over_at": current.taken_over_at})


def _taken_over(current: WorkerEntry, new: WorkerEntry) -> WorkerEntry:
    """The first poll of a newer agent.

    One that was started anew before its own predecessors were certainly gone inherits them, and the time since when
    they have been silent: else a restart would hide the agent that it was copied from.
    """
    known, agent, at = current.agent, new.agent, new.agent.last_poll_at
    inherited = tuple(one for one in _perhaps_alive(current, at) if not _is_same_place(one, agent))
    is_gone = known.left or _is_same_place(known, agent)
    before = inherited if is_gone else (*inherited, known)
    since = current.taken_over_at if is_gone and inherited else at
    return new.model_copy(update={"predecessors": before[-MAX_PREDECESSORS:], "taken_over_at": since})


def _perhaps_alive(entry: WorkerEntry, now: datetime) -> tuple[AgentSeen, ...]:
    """The agents before this one of which it is not certain that they are gone."""
    is_over = entry.taken_over_at is None or now - entry.taken_over_at >= ONE_POLL_TIMEOUT
    return () if is_over else entry.predecessors


def _is_same_place(one: AgentSeen, other: AgentSeen) -> bool:
    """Whether both had the same state folder on the same machine since its boot, so that only one can live."""
    return bool(one.instance) and one.instance == other.instance


def _side(conflict: CredentialConflict, agent: AgentSeen) -> AgentSeen | None:
    """Which of the two an agent is, or took the place of; None if it is neither, as far as can be told."""
    sides = (conflict.older, conflict.newer)
    same = [side for side in sides if is_same_agent(side, agent)] or [s for s in sides if _is_same_place(s, agent)]
    return same[0] if len(same) == 1 else None


def _side_of_stranger(conflict: CredentialConflict, agent: AgentSeen) -> AgentSeen:
    """Which of the two to replace by an agent that is neither: one of them after a reboot, or a third.

    A wrong guess costs time only. Whoever has lost its place is a stranger then, and comes back.
    """
    sides = (conflict.older, conflict.newer)
    for found in (
        [side for side in sides if side.host == agent.host],
        [side for side in sides if side.incarnation <= agent.incarnation],
    ):
        if len(found) == 1:
            return found[0]
    return min(sides, key=lambda side: side.last_poll_at)


def _instead_of(conflict: CredentialConflict, stranger: AgentSeen) -> AgentSeen:
    """In whose favour a stranger is turned away: not in that of one with its own number, which would prove nothing."""
    return conflict.older if conflict.older.incarnation != stranger.incarnation else conflict.newer


def _arrive_in_conflict(
    current: WorkerEntry, conflict: CredentialConflict, new: WorkerEntry, superseded_by: int | None
) -> WorkerEntry:
    agent = new.agent
    side = _side(conflict, agent)
    if side is None:
        if superseded_by is None:
            raise superseded(by=_instead_of(conflict, agent))  # what an agent said before its reboot, perhaps
        side = _side_of_stranger(conflict, agent)
    elif side.arrival == agent.arrival:
        return current
    elif side.incarnation > agent.incarnation or (is_same_agent(side, agent) and is_newer(side, agent)):
        raise superseded(by=side)
    changed = conflict.model_copy(update={"older" if side is conflict.older else "newer": agent})
    return new.model_copy(update={"conflict": changed})


def _in_conflict(new: WorkerEntry, *, older: AgentSeen, newer: AgentSeen) -> WorkerEntry:
    return new.model_copy(
        update={"conflict": CredentialConflict(older=older, newer=newer, since=new.agent.last_poll_at)}
    )
