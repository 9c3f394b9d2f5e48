"""Which polls only continue the one before, so that their writes may wait for a moment."""

import pytest

from edge_relay.dispatch.arrival import agent_seen
from edge_relay.stores import last_arrivals
from edge_relay.stores.last_arrivals import LastArrivals, StoredEntry
from edge_schemas.wire.polls import Poll
from edge_schemas.wire.worker_entry import AgentSeen, WorkerEntry
from edge_schemas.wire.worker_report import WorkerVersions

VERSIONS = WorkerVersions(agent="", python="", platform="")


def seen(*, incarnation: int = 1, instance: str = "machine", key: str | None = None) -> AgentSeen:
    report = Poll(protocol=1, incarnation=incarnation, seq=1, slots=1, free=1, versions=VERSIONS, instance=instance)
    return agent_seen(report, None, key)


def stored(agent: AgentSeen, worker: str = "w") -> StoredEntry:
    entry = WorkerEntry(
        worker=worker,
        site="s",
        agent=agent,
        relay="r",
        poll_timeout_s=1,
        slots=1,
        free=1,
        draining=False,
        jobs=(),
        versions=VERSIONS,
        health=Poll(protocol=1, incarnation=1, seq=1, slots=1, free=1, versions=VERSIONS).health,
    )
    return StoredEntry(entry, 1)


def answered() -> tuple[LastArrivals, AgentSeen]:
    """A worker whose last poll was answered empty."""
    last, agent = LastArrivals(), seen()
    last.keep(stored(agent))
    last.answered_empty("w", agent.arrival)
    return last, agent


def test_the_next_poll_of_an_agent_with_an_empty_answer_is_routine_once() -> None:
    last, _ = answered()
    assert last.is_routine("w", seen())
    assert not last.is_routine("w", seen()), "a second one comes because something has changed"


@pytest.mark.parametrize("other", [seen(incarnation=2), seen(instance="copy"), seen(key="another")])
def test_the_poll_of_another_agent_is_not_routine(other: AgentSeen) -> None:
    last, _ = answered()
    assert not last.is_routine("w", other)


def test_a_poll_before_the_answer_of_the_last_one_is_not_routine() -> None:
    last, earlier = answered()
    last.keep(stored(seen()))
    last.answered_empty("w", earlier.arrival)
    assert not last.is_routine("w", seen())
    assert not last.is_routine("unknown", seen())


def test_what_was_taken_or_pushed_out_is_not_routine(monkeypatch: pytest.MonkeyPatch) -> None:
    last, _ = answered()
    assert last.take("w") is not None
    assert not last.is_routine("w", seen())
    monkeypatch.setattr(last_arrivals, "MAX_LAST", 1)
    last, _ = answered()
    last.keep(stored(seen(), "another"))
    assert not last.is_routine("w", seen())
    assert last.take("w") is None
