"""In which order and in which steps a poll asks its queues."""

import math
from dataclasses import dataclass

from edge_relay.pulls.search import EMPTY_FOR_S, in_order, steps


@dataclass
class Queue:
    """What is known of a queue."""

    consumer: str
    likely_has_jobs: bool = False
    asked_at: float = -math.inf
    empty_at: float = -math.inf


def test_the_number_of_queues_doubles() -> None:
    queues = [Queue(str(number)) for number in range(40)]
    found = list(steps(queues))
    assert [len(some) for some in found] == [1, 2, 4, 8, 16, 9]
    assert [name for some in found for name in some] == [queue.consumer for queue in queues]
    assert list(steps([])) == []


def test_a_queue_that_had_jobs_is_asked_alone() -> None:
    queues = [Queue(name, likely_has_jobs=name.isupper()) for name in "abcDEfgh"]
    assert list(steps(queues)) == [["a"], ["b", "c"], ["D"], ["E"], ["f", "g", "h"]]


def test_each_queue_has_its_turn_next_to_one_that_always_has_jobs() -> None:
    deep, other = Queue("deep", likely_has_jobs=True), Queue("other")
    turns = []
    for now in range(10):
        first = in_order([deep, other], float(now))[0]
        first.asked_at = float(now)  # type: ignore[misc]  # a queue of this test
        turns.append(first.consumer)
    assert turns.count("other") == 5


def test_queues_that_were_never_asked_have_no_fixed_order() -> None:
    queues = [Queue(str(number)) for number in range(4)]
    assert {in_order(queues, 0.0)[0].consumer for _ in range(200)} == set("0123")


def test_a_queue_that_was_empty_a_moment_ago_is_asked_last() -> None:
    """So that a worker of short jobs gets the next one of a deep queue at the first try."""
    deep = Queue("deep", likely_has_jobs=True, asked_at=5.0)
    empty = Queue("empty", asked_at=4.5, empty_at=4.5)
    assert [one.consumer for one in in_order([empty, deep], 5.0)] == ["deep", "empty"]
    assert [one.consumer for one in in_order([deep, empty], 4.5 + EMPTY_FOR_S)] == ["empty", "deep"]
