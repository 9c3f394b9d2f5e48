"""In which steps a poll asks its queues."""

from types import SimpleNamespace
from typing import cast

from edge_relay.pulls.dispatcher import Dispatcher
from edge_relay.pulls.search import in_order, steps


def test_the_number_of_queues_doubles() -> None:
    names = [str(number) for number in range(40)]
    found = list(steps(names))
    assert [len(some) for some in found] == [1, 2, 4, 8, 16, 9]
    assert [name for some in found for name in some] == names
    assert list(steps([])) == []


def test_queues_that_had_jobs_come_first_in_any_order() -> None:
    """Else one deep queue would keep a worker from all others."""
    queues = [SimpleNamespace(consumer=str(n), likely_has_jobs=n < 5) for n in range(10)]
    orders = [in_order(cast("list[Dispatcher]", queues)) for _ in range(200)]
    assert all(set(order[:5]) == set("01234") for order in orders)
    assert {order[0] for order in orders} == set("01234")
