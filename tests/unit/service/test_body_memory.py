"""The memory for bodies: whoever fills a part of it takes nothing from the others."""

import pytest

from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_service.body_memory import BodyMemory, MemoryLimit


def test_one_worker_has_its_share_and_no_more() -> None:
    reached: list[MemoryLimit] = []
    memory = BodyMemory(1000, 300, reached.append)
    with memory.account("a") as one, memory.account("a") as two, memory.account("b") as other:
        one.add(200)
        two.add(100)
        with pytest.raises(EdgeError) as refused:
            two.add(1)
        assert (refused.value.code, refused.value.extra["retry_after_s"]) == (ErrorCode.RATE_LIMITED, 2.0)
        assert reached == [MemoryLimit.OF_OWNER]
        other.add(300)
        assert memory.used == 600
    assert memory.used == 0


def test_large_bodies_leave_room_for_small_ones() -> None:
    reached: list[MemoryLimit] = []
    memory = BodyMemory(1000, 1000, reached.append)
    with memory.account("a", large_from=0) as large, memory.account("b") as small:
        large.add(750)
        with pytest.raises(EdgeError):
            large.add(1)
        assert reached == [MemoryLimit.ALL]
        small.add(250)
        with pytest.raises(EdgeError):
            small.add(1)


def test_a_body_is_large_from_some_size_on() -> None:
    memory = BodyMemory(1000, 1000, lambda _: None)
    with memory.account("a", large_from=0) as large, memory.account("b", large_from=100) as other:
        large.add(750)
        other.add(100)
        with pytest.raises(EdgeError):
            other.add(1)


def test_bytes_that_were_passed_on_make_room() -> None:
    memory = BodyMemory(1000, 100, lambda _: None)
    with memory.account("a") as account:
        for _ in range(50):
            account.add(100)
            account.remove(100)
        account.add(60)
        assert memory.used == 60
    assert memory.used == 0
    assert not memory._by_owner


def test_a_body_that_ends_in_an_error_is_forgotten() -> None:
    memory = BodyMemory(1000, 100, lambda _: None)

    def read() -> None:
        with memory.account("a") as account:
            account.add(100)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        read()
    assert memory.used == 0
