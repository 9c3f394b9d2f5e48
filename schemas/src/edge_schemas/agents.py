"""Which agent speaks for a worker: the newest one, unless two live at once with one credential.

Pure, and the only way a worker's entry changes. A cut, a restart, a repeat by a load balancer and a poll that was
delivered late must none of them look like a copied credential, and a copied credential must not cost a job.
"""

from datetime import datetime, timedelta

from edge_schemas.errors import EdgeError, ErrorCode
from edge_schemas.polls import MAX_HOLD_S, AgentSeen, Contest, WorkerEntry

ONE_HOLD = timedelta(seconds=MAX_HOLD_S + 10)
"""An older agent that lives polls again within this: its parked poll ends, and it is told that it is superseded."""
TAKEOVER_RETRY_S = 2.0
MISSED_CONTACTS = 3
SHORTEST_CONTACT_S = 5.0


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
    if current.contest is not None:
        return _arrive_contested(current, current.contest, new)
    known, agent = current.agent, new.agent
    if known.arrival == agent.arrival:
        return current
    if known.incarnation == agent.incarnation and known.instance != agent.instance:
        return _contested(new, older=known, newer=agent)
    if is_newer(known, agent):
        if superseded_by == known.incarnation and agent.incarnation < known.incarnation:
            return _contested(new, older=agent, newer=known)
        raise superseded(by=known)
    if agent.incarnation > known.incarnation:
        return new.model_copy(update={"predecessor": known, "taken_over_at": agent.last_poll_at})
    return new.model_copy(update={"predecessor": current.predecessor, "taken_over_at": current.taken_over_at})


def is_newer(one: AgentSeen, other: AgentSeen) -> bool:
    """Whether `one` is newer. Of two with the same numbers the later arrival is a repeat that takes over."""
    return (one.incarnation, one.seq) > (other.incarnation, other.seq)


def superseded(*, by: AgentSeen) -> EdgeError:
    """The answer to a poll that no longer counts."""
    return EdgeError(ErrorCode.SUPERSEDED, superseded_by=by.incarnation)


def current_arrival(entry: WorkerEntry, agent: AgentSeen) -> AgentSeen:
    """The newest poll of this agent, or of the one that took its place."""
    if entry.contest is None:
        return entry.agent
    return entry.contest.older if is_older_side(entry.contest, agent) else entry.contest.newer


def leave(entry: WorkerEntry, arrival: str) -> WorkerEntry | None:
    """The entry after a poll's connection was closed before its answer; None if that is no news any more."""
    if entry.agent.arrival == arrival and not entry.agent.left:
        return entry.model_copy(update={"agent": _left(entry.agent)})
    older = entry.predecessor
    if older is not None and older.arrival == arrival and not older.left:
        return entry.model_copy(update={"predecessor": _left(older)})
    return None


def has_taken_over(entry: WorkerEntry, now: datetime) -> bool:
    """Whether the agent certainly stands alone, so that a job which it lacks is lost.

    Its predecessor had the same state folder on the same machine since its boot, or has no parked poll, or has said
    nothing for a whole hold.
    """
    if entry.contest is not None:
        return False
    older = entry.predecessor
    if older is None or entry.taken_over_at is None:
        return True
    if older.left or (older.instance and older.instance == entry.agent.instance):
        return True
    return now - entry.taken_over_at >= ONE_HOLD


def check_taken_over(entry: WorkerEntry | None, *, holder: int, incarnation: int, now: datetime) -> None:
    """Whether an agent may start anew, or settle, a job that an older incarnation of its worker started.

    It finds the job's folder on its disk. If that disk is a copy, the job runs elsewhere, and would be ended, or run
    again, by somebody who knows nothing of it.

    Raises:
        EdgeError: `takeover_pending`: not certain yet, or contested.
    """
    if incarnation <= holder:
        return
    known = entry is not None and entry.agent.incarnation >= incarnation
    if not known or entry is None or not has_taken_over(entry, now):
        raise EdgeError(ErrorCode.TAKEOVER_PENDING, retry_after_s=TAKEOVER_RETRY_S)


def settle(entry: WorkerEntry, *, keep_newer: bool) -> WorkerEntry:
    """The entry after an operator decided which of two agents is the worker. Should the other live on, it shows."""
    if entry.contest is None:
        return entry
    kept = entry.contest.newer if keep_newer else entry.contest.older
    return entry.model_copy(update={"agent": kept, "contest": None, "predecessor": None, "taken_over_at": None})


def is_offline(entry: WorkerEntry, now: datetime) -> bool:
    """Whether the worker has missed several contacts in a row."""
    contact = timedelta(seconds=max(entry.hold_s, SHORTEST_CONTACT_S))
    return now - entry.agent.last_poll_at > MISSED_CONTACTS * contact


def is_older_side(contest: Contest, agent: AgentSeen) -> bool:
    """Which of the two a poll belongs to. A restart of either keeps its instance, and changes its incarnation."""
    for side, is_older in ((contest.older, True), (contest.newer, False)):
        if (side.instance, side.incarnation) == (agent.instance, agent.incarnation):
            return is_older
    return agent.instance == contest.older.instance != contest.newer.instance


def _arrive_contested(current: WorkerEntry, contest: Contest, new: WorkerEntry) -> WorkerEntry:
    is_older = is_older_side(contest, new.agent)
    side = contest.older if is_older else contest.newer
    if side.arrival == new.agent.arrival:
        return current
    if is_newer(side, new.agent):
        raise superseded(by=side)
    changed = contest.model_copy(update={"older" if is_older else "newer": new.agent})
    return new.model_copy(update={"contest": changed})


def _contested(new: WorkerEntry, *, older: AgentSeen, newer: AgentSeen) -> WorkerEntry:
    return new.model_copy(update={"contest": Contest(older=older, newer=newer, since=new.agent.last_poll_at)})


def _left(agent: AgentSeen) -> AgentSeen:
    return agent.model_copy(update={"left": True})
