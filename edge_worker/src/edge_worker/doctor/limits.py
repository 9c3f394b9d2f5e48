"""Time limits that hold whatever hangs."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import TypeVar

from edge_service.findings import Check, Finding, Status, failed

_T = TypeVar("_T")
WHOLE_S = 28.0
"""All checks together; who waits at a telephone must not wait longer."""
WAY_S = 22.0
"""Those that ask the relay; the rest is for the machine."""
_MARGIN_S = 1.0


@dataclass
class Deadline:
    """The end of a part of the examination, or of all of it.

    Attributes:
        within_s: From now.
    """

    within_s: float
    _ends_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._ends_at = monotonic() + self.within_s

    @property
    def left_s(self) -> float:
        """Seconds until then, never less than none."""
        return max(0.0, self._ends_at - monotonic())

    def check(
        self,
        check: str,
        look: Callable[[], Awaitable[Finding | Iterable[Finding]]],
        *,
        needs: tuple[str, ...] = (),
        limit_s: float,
        when_late: str,
    ) -> Check:
        """A check that ends in time.

        Args:
            check: Its id.
            look: Does it.
            needs: See `Check`.
            limit_s: The longest it may take, less if the whole is nearly over.
            when_late: What to do if it has not ended by then.
        """

        async def within_limit() -> Finding | Iterable[Finding]:
            limit = min(limit_s, self.left_s)
            if not limit:
                return Finding(check, Status.NOT_TRIED, f"{check}: the {self.within_s:.0f} s for it are over")
            try:
                async with asyncio.timeout(limit):
                    return await look()
            except TimeoutError:
                return failed(check, f"nothing came within {limit:.0f} s", when_late)

        return Check(check, within_limit, needs, limit_s + _MARGIN_S)


async def in_thread(call: Callable[[], _T]) -> _T:
    """What `call` returns or raises.

    For what may hang for ever, such as a look at a network file system or at a name server: unlike the event loop's own
    threads, one of these does not keep the process from ending.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result: _T | None = None
        error: BaseException | None = None
        try:
            result = call()
        except BaseException as raised:  # noqa: BLE001 - handed to whoever waits
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, daemon=True).start()
    return await done
