"""One action on many targets: some at a time, and an error about one target concerns no other.

But while NATS is away, each attempt costs seconds: after the first one that failed for this, no other is begun.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_schemas.admin.actions import ActionFailure, ActionResult
from edge_schemas.wire.errors import EdgeError, ErrorCode

log = structlog.get_logger(__name__)

T = TypeVar("T")
AT_ONCE = 64
MAX_LISTED = 1000
NOT_TRIED = "not tried: NATS does not answer; repeat the call, which changes nothing twice"


async def act_on_all(
    targets: Sequence[tuple[str, T]], act: Callable[[T], Awaitable[bool]], *, dry_run: bool = False
) -> ActionResult:
    """Act on each target.

    Args:
        targets: The name of each, and what `act` needs.
        act: Returns whether it changed the target. Its `EdgeError` is a failure of this target.
        dry_run: For the result.

    Raises:
        BrokerUnavailable: For every target: what became of them is unknown, and the whole action is to be repeated.
    """
    changed: list[str] = []
    failures: list[ActionFailure] = []
    limit = asyncio.Semaphore(AT_ONCE)
    away = asyncio.Event()

    async def one(name: str, target: T) -> None:
        async with limit:
            try:
                if away.is_set():
                    raise BrokerUnavailable(NOT_TRIED)
                if await act(target):
                    changed.append(name)
            except BrokerUnavailable as error:
                away.set()
                failures.append(ActionFailure(target=name, code=error.code, detail=str(error)))
            except EdgeError as error:
                failures.append(ActionFailure(target=name, code=error.code, detail=str(error)))
            except JetStreamError as error:
                log.warning("action_failed", target=name, error=str(error))
                failures.append(ActionFailure(target=name, code=ErrorCode.INTERNAL, detail="NATS refused the change"))

    await asyncio.gather(*(one(name, target) for name, target in targets))
    if failures and len(failures) == len(targets) and {one.code for one in failures} == {ErrorCode.BROKER_UNAVAILABLE}:
        raise BrokerUnavailable(failures[0].detail)
    return ActionResult(
        changed=tuple(sorted(changed)[:MAX_LISTED]),
        changed_count=len(changed),
        unchanged_count=len(targets) - len(changed) - len(failures),
        failures=tuple(sorted(failures, key=lambda failure: failure.target)[:MAX_LISTED]),
        failure_count=len(failures),
        dry_run=dry_run,
    )
