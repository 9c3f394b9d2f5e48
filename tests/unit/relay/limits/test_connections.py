"""The sums of connections: strangers push out strangers, and known callers are safe from them."""

from collections.abc import Callable

import pytest

from edge_relay.limits.connections import Connection, Connections
from edge_relay.limits.kinds import Limit
from edge_schemas.wire.errors import EdgeError, ErrorCode


class Room:
    """A listener with room for 16, and what it closed."""

    def __init__(self) -> None:
        self.reached: list[Limit] = []
        self.closed: list[Connection] = []
        self.counted = Connections(most=16, strangers_of_address=4, of_owner=3, on_limit=self.reached.append)

    def open(self, address: str | None = "a", *, owner: str = "") -> Connection:
        connection = Connection(address)
        connection.close = self._close(connection)
        self.counted.add(connection)
        if owner:
            self.counted.recognize(connection, owner)
        return connection

    def _close(self, connection: Connection) -> Callable[[], None]:
        return lambda: self.closed.append(connection)


def test_strangers_of_one_address_push_out_each_other() -> None:
    room = Room()
    other = room.open("b")
    opened = [room.open("a") for _ in range(10)]
    assert room.closed == opened[:6]
    assert room.reached == [Limit.CONNECTIONS_OF_ADDRESS] * 6
    assert other not in room.closed
    assert room.counted.strangers == 5


def test_known_callers_of_one_address_are_not_limited_by_it() -> None:
    """A thousand workers may sit behind one address."""
    room = Room()
    known = [room.open("a", owner=f"w{number}") for number in range(14)]
    assert not room.closed
    for _ in range(50):
        room.open("a")
    assert not set(known) & set(room.closed)
    assert (room.counted.known, room.counted.strangers) == (14, 2)


def test_the_oldest_stranger_makes_room_for_a_newcomer() -> None:
    room = Room()
    opened = [room.open(str(number)) for number in range(20)]
    assert room.closed == opened[:4]
    assert set(room.reached) == {Limit.CONNECTIONS}
    for number, connection in enumerate(opened[4:16]):
        room.counted.recognize(connection, f"w{number}")
    assert (room.counted.known, room.counted.strangers) == (12, 4)


def test_known_callers_never_fill_all_the_room() -> None:
    """A newcomer is a stranger until its first call; a probe of a load balancer always is."""
    room = Room()
    for number in range(14):
        room.open(owner=f"w{number}")
    stranger = room.open()
    with pytest.raises(EdgeError) as refused:
        room.counted.recognize(stranger, "w15")
    assert refused.value.code is ErrorCode.RATE_LIMITED
    assert not room.closed
    room.counted.remove(stranger)
    assert room.counted.strangers == 0


def test_one_worker_has_its_connections_and_no_more() -> None:
    room = Room()
    first = [room.open(owner="w") for _ in range(3)]
    with pytest.raises(EdgeError) as refused:
        room.open(owner="w")
    assert (refused.value.code, room.reached) == (ErrorCode.RATE_LIMITED, [Limit.CONNECTIONS_OF_WORKER])
    room.counted.recognize(first[0], "w")
    room.counted.remove(first[0])
    room.open(owner="w")


def test_a_load_balancers_connection_carries_many_workers() -> None:
    """Its address says nothing, and its calls belong to one worker after another."""
    room = Room()
    connections = [room.open(None) for _ in range(8)]
    assert not room.closed
    for turn in range(100):
        room.counted.recognize(connections[turn % 8], f"w{turn % 50}")
    assert (room.counted.known, room.counted.strangers) == (8, 0)
    for connection in connections:
        room.counted.remove(connection)
        room.counted.remove(connection)
    assert (room.counted.known, room.counted.strangers) == (0, 0)


def test_only_a_stranger_expires() -> None:
    room = Room()
    known, stranger, gone = room.open(owner="w"), room.open(), room.open()
    room.counted.remove(gone)
    for connection in (known, stranger, gone):
        room.counted.expire(connection)
    assert room.closed == [stranger]
    assert room.reached == [Limit.FIRST_REQUEST]


def test_producers_leave_room_for_workers() -> None:
    """Of 16, two are kept for strangers and four more for workers."""
    room = Room()
    for number in range(10):
        room.counted.recognize(room.open(f"p{number}"), f"producer {number}", is_producer=True)
    with pytest.raises(EdgeError) as refused:
        room.counted.recognize(room.open("p"), "producer x", is_producer=True)
    assert refused.value.code is ErrorCode.RATE_LIMITED
    for number in range(4):
        room.counted.recognize(room.open(f"w{number}"), f"worker-{number}")
