"""Time limits for checks, which also hold for checks that hang."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import TypeVar

from edge_service.findings import Check, Finding, Status, failed

_T = TypeVar("_T")
TOTAL_S = 28.0
"""All checks together; a person on the telephone must not wait longer."""
RELAY_S = 22.0
"""The checks that need the network; the rest is for the machine."""
_MARGIN_S = 1.0


@dataclass
class Deadline:
    """The deadline of a part of the examination, or of all of it.

    Attributes:
        within_s: From now.
    """

    within_s: float
    _ends_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._ends_at = monotonic() + self.within_s

    @property
    def left_s(self) -> float:
        """Seconds until the deadline; 0 after it."""
        return max(0.0, self._ends_at - monotonic())

    def check(
        self,
        check: str,
        run: Callable[[], Awaitable[Finding | Iterable[Finding]]],
        *,
        needs: tuple[str, ...] = (),
        limit_s: float,
        when_late: str,
    ) -> Check:
        """A check with a time limit.

        Args:
            check: The id of the check.
            run: Does the check.
            needs: See `Check`.
            limit_s: The longest it may take; less if the deadline is near.
            when_late: The advice if the check has not ended by then.
        """

        async def within_limit() -> Finding | Iterable[Finding]:
            limit = min(limit_s, self.left_s)
            if not limit:
                return Finding(check, Status.NOT_TRIED, f"{check}: the {self.within_s:.0f} s for it are over")
            try:
                async with asyncio.timeout(limit):
                    return await run()
            except TimeoutError:
                return failed(check, f"no answer within {limit:.0f} s", when_late)

        return Check(check, within_limit, needs, limit_s + _MARGIN_S)


async def in_thread(call: Callable[[], _T]) -> _T:
    """What `call` returns or raises.

    For calls that may hang for ever, such as to a network file system or a name server: unlike the event loop's own
    threads, this thread does not keep the process from ending.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def set_result(result: _T) -> None:
        if not done.done():
            done.set_result(result)

    def set_error(error: BaseException) -> None:
        if not done.done():
            done.set_exception(error)

    def report(call: Callable[[], None]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(call)

    def run() -> None:
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - raised again in the event loop
            report(partial(set_error, error))
        else:
            report(partial(set_result, result))

    threading.Thread(target=run, daemon=True).start()
    return await done
