"""What is repeated, and when."""

import pytest

from edge_schemas.wire.errors import ERRORS, EdgeError, ErrorCode, Problem
from edge_worker.relay.call_result import NoAnswer, Refused
from edge_worker.relay.retry import Backoff, Fate, fate_of, until_final


def refused(code: ErrorCode, *, retry_after_s: float | None = None) -> Refused:
    return Refused(EdgeError(code).problem(), retry_after_s)


@pytest.mark.parametrize("code", list(ErrorCode))
def test_the_table_decides(code: ErrorCode) -> None:
    slow = code is ErrorCode.UNAUTHENTICATED
    expected = (Fate.RETRY_SLOWLY if slow else Fate.RETRY) if ERRORS[code].retryable else Fate.FINAL
    assert fate_of(refused(code)) is expected


@pytest.mark.parametrize(("retryable", "expected"), [(True, Fate.RETRY), (False, Fate.FINAL)])
def test_of_a_newer_code_the_relay_says_it_itself(expected: Fate, *, retryable: bool) -> None:
    problem = Problem(type="t", title="t", status=400, code="from_the_future", retryable=retryable)
    assert fate_of(Refused(problem)) is expected


@pytest.mark.parametrize(
    ("status", "expected"), [(None, Fate.RETRY), (502, Fate.RETRY), (401, Fate.RETRY_SLOWLY), (407, Fate.RETRY_SLOWLY)]
)
def test_no_answer_is_repeated_slowly_where_a_password_is_missing(status: int | None, expected: Fate) -> None:
    assert fate_of(NoAnswer("x", proxy_status=status)) is expected


def test_pauses_grow_up_to_a_cap_and_begin_again_after_a_success() -> None:
    backoff = Backoff(first_s=1, cap_s=10, jitter=lambda: 1.0)
    assert [backoff.next_pause(NoAnswer("x")) for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    backoff.reset()
    assert backoff.next_pause(NoAnswer("x")) == 1


def test_jitter_takes_off_up_to_half() -> None:
    assert Backoff(first_s=8, jitter=lambda: 0.0).next_pause(NoAnswer("x")) == 4


def test_a_pause_is_never_shorter_than_the_relay_asks() -> None:
    pause = Backoff(first_s=1, jitter=lambda: 0.0).next_pause(refused(ErrorCode.RATE_LIMITED, retry_after_s=7))
    assert pause == 7.5


async def test_repeats_end_with_a_success_or_a_final_refusal() -> None:
    pauses: list[float] = []
    answers: list[Exception | str] = [NoAnswer("x"), refused(ErrorCode.INTERNAL), "done"]

    async def call() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def pause(delay_s: float) -> None:
        pauses.append(delay_s)

    assert await until_final(call, pause=pause) == "done"
    assert len(pauses) == 2
    answers.append(refused(ErrorCode.JOB_ENDED))
    with pytest.raises(Refused):
        await until_final(call, pause=pause)
