"""The search of a poll that waits at several consumers: whether one of them has a job now, few at a time.

A consumer is called a queue here: it has the jobs of one kind in a queue. Asked all at once, each queue with a job
would deliver one, and all but the few that the poll wants would have to be returned. A queue that had jobs is asked
alone. Of the others, the number that is asked at once doubles: many empty queues do not take long.
"""

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from edge_relay.pulls.dispatcher import Dispatcher
from edge_relay.pulls.wait_queue import PollDemand

STEP_TIMEOUT_S = 1.0
"""A queue that has not answered by then, perhaps because its leader is gone, does not keep the poll from the others."""
EMPTY_FOR_S = 1.0
"""A queue that was empty so recently is asked last: a worker of short jobs does not ask all queues before each job."""


class Asked(Protocol):
    """What the search knows of a queue; see `Dispatcher`."""

    @property
    def consumer(self) -> str:
        """Of the queue."""

    @property
    def likely_has_jobs(self) -> bool:
        """Whether jobs waited when it was last asked."""

    @property
    def asked_at(self) -> float:
        """When that was."""

    @property
    def empty_at(self) -> float:
        """When no job waited for the last time."""


def in_order(queues: Sequence[Asked], now: float) -> list[Asked]:
    """The queues in the order in which they are asked: each has its turn, however many jobs wait in another one."""
    shuffled = random.sample(queues, len(queues))
    return sorted(shuffled, key=lambda one: (now - one.empty_at < EMPTY_FOR_S, one.asked_at))


def steps(queues: Sequence[Asked]) -> Iterator[list[str]]:
    """The consumers that are asked at once, step by step."""
    group: list[str] = []
    size = 1
    for one in queues:
        if one.likely_has_jobs:
            if group:
                yield group
                group = []
            yield [one.consumer]
            continue
        group.append(one.consumer)
        if len(group) == size:
            yield group
            group, size = [], size * 2
    if group:
        yield group


async def search(demand: PollDemand, queues: Sequence[Asked], dispatcher_of: Callable[[str], Dispatcher]) -> None:
    """Make a poll wait at these queues, one step after the other, until it has a job or waits at all of them."""
    for consumers in steps(in_order(queues, asyncio.get_running_loop().time())):
        dispatchers = [dispatcher_of(name) for name in consumers]
        for dispatcher in dispatchers:
            dispatcher.join(demand)
        await asyncio.wait([dispatcher.searched() for dispatcher in dispatchers], timeout=STEP_TIMEOUT_S)
        if demand.taken:
            return
