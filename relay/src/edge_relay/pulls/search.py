"""The search of a poll that may take jobs of several queues: whether one of them has a job now, few at a time.

Asked all at once, each queue with a job would deliver one, and all but the few that the poll takes would have to be
returned. The number of queues doubles with each step, so that many empty ones do not take long either.
"""

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence

from edge_relay.pulls.dispatcher import Dispatcher
from edge_relay.pulls.wait_queue import PollDemand

STEP_TIMEOUT_S = 1.0
"""A queue that has not answered by then, perhaps for want of a leader, does not keep the poll from the others."""


def in_order(dispatchers: Sequence[Dispatcher]) -> list[str]:
    """The consumers as they should be asked: those that had jobs last time first, each group in random order."""
    shuffled = random.sample(dispatchers, len(dispatchers))
    return [one.consumer for one in sorted(shuffled, key=lambda one: not one.likely_has_jobs)]


def steps(consumers: Sequence[str]) -> Iterator[Sequence[str]]:
    """1, 2, 4 … consumers."""
    first, size = 0, 1
    while first < len(consumers):
        yield consumers[first : first + size]
        first, size = first + size, size * 2


async def search(demand: PollDemand, consumers: Sequence[str], dispatcher_of: Callable[[str], Dispatcher]) -> None:
    """Make a poll wait at these queues, one step after the other, until it has a job or waits at all of them."""
    for some in steps(consumers):
        dispatchers = [dispatcher_of(name) for name in some]
        for dispatcher in dispatchers:
            dispatcher.join(demand)
        await asyncio.wait([dispatcher.settled() for dispatcher in dispatchers], timeout=STEP_TIMEOUT_S)
        if demand.taken:
            return
