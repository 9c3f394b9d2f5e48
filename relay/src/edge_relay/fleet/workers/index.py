"""All workers with what lists filter and sort by. Kept only while operators look.

An entry that a poll has changed is parsed when an operator looks. What operators have set is computed again only for
the workers that a change concerns.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge_relay.desired.state import CurrentOrder, DesiredState
from edge_relay.desired.worker_state import worker_state
from edge_relay.fleet.lists.cached import Cached, Dated
from edge_relay.identity.credentials import Credentials
from edge_relay.metrics.fleet import Fleet
from edge_relay.metrics.last_poll import LastPoll
from edge_schemas.admin.desired import SITE_PREFIX, WORKER_PREFIX
from edge_schemas.wire.workers import WorkerAccess, WorkerSettings, WorkerState

KEPT_WITHOUT_READER_S = 300.0
_AT_ONCE = 200


@dataclass(slots=True)
class WorkerView:
    """A worker. Valid until the event loop runs again: later looks change it.

    Attributes:
        settings: What operators want now.
        order: The order that counts.
        text: What a search finds, in lower case, besides the host.
        poll: Its last poll.
    """

    access: WorkerAccess
    settings: WorkerSettings
    labels: dict[str, str]
    order: CurrentOrder | None
    text: str
    poll: LastPoll | None
    state: WorkerState

    @property
    def name(self) -> str:
        """The worker's."""
        return self.access.worker

    @property
    def site(self) -> str:
        """Where it is."""
        return self.access.site

    @property
    def host(self) -> str:
        """The host that polled last, else the one that enrolled."""
        return (self.poll.host if self.poll else "") or self.access.hostname

    @property
    def running(self) -> int | None:
        """Jobs that it has started; None if it never polled."""
        return None if self.poll is None else self.poll.jobs[1] + self.poll.jobs[2]

    @property
    def can_accept(self) -> bool:
        """Whether it would get a job now, if its runtime fits and the queue is served."""
        return self.state is WorkerState.ONLINE and self.poll is not None and self.poll.free > 0


class WorkerIndex:
    """The workers, brought up to date at most once a second and only for a reader.

    Args:
        fleet: The last polls.
        credentials: Who has enrolled.
        desired: What operators have set.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        fleet: Fleet,
        credentials: Credentials,
        desired: DesiredState,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fleet = fleet
        self._credentials = credentials
        self._desired = desired
        self._clock = clock
        self._views: dict[str, WorkerView] = {}
        self._changed_all = True
        self._changed: set[str] = set()
        self._read_at = float("-inf")
        self._forget: asyncio.TimerHandle | None = None
        self._current = Cached(fleet.clock, self._update, clock=clock)
        credentials.on_change(self._credential_changed)
        desired.on_change(self._desired_changed)

    async def all(self) -> Dated[list[WorkerView]]:
        """All workers. The list and its items must be read before the next `await`."""
        self._read_at = self._clock()
        if self._forget is None:
            loop = asyncio.get_running_loop()
            self._forget = loop.call_later(KEPT_WITHOUT_READER_S, self._forget_if_unread)
        return await self._current.get()

    @property
    def kept_for_s(self) -> float:
        """See `Cached.kept_for_s`."""
        return self._current.kept_for_s

    def get(self, worker: str) -> WorkerView | None:
        """A worker as of the last call of `all`."""
        return self._views.get(worker)

    def _forget_if_unread(self) -> None:
        """Free the memory if nobody has looked for some minutes."""
        left_s = self._read_at + KEPT_WITHOUT_READER_S - self._clock()
        if left_s > 0:
            self._forget = asyncio.get_running_loop().call_later(left_s, self._forget_if_unread)
        else:
            self._views, self._changed, self._changed_all, self._forget = {}, set(), True, None
            self._current.forget()

    async def _update(self) -> list[WorkerView]:
        await self._fleet.prepare()
        await self._update_settings()
        now = self._fleet.now()
        last_poll = self._fleet.last_poll
        for view in self._views.values():
            view.poll = last_poll(view.access.worker)
            view.state = state_of(view.access, view.settings, view.poll, now)
        return list(self._views.values())

    async def _update_settings(self) -> None:
        """Compute again what operators have set, for the workers that a change concerns."""
        accesses = {access.worker: access for access in self._credentials.workers()}
        changed = accesses.keys() if self._changed_all else self._changed & accesses.keys()
        changed = set(changed) | (accesses.keys() - self._views.keys())
        self._changed_all, self._changed = False, set()
        for gone in self._views.keys() - accesses.keys():
            del self._views[gone]
        for number, worker in enumerate(changed):
            self._views[worker] = self.view(accesses[worker])
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)

    def view(self, access: WorkerAccess) -> WorkerView:
        """A worker as it is now."""
        labels = self._desired.worker(access.worker).labels
        poll = self._fleet.last_poll(access.worker)
        words = (access.worker, access.site, *(f"{key}={value}" for key, value in labels.items()))
        order = self._desired.order(access.worker, access.site)
        settings = self._desired.settings(access)
        return WorkerView(
            access=access,
            settings=settings,
            labels=labels,
            order=order,
            text="\n".join(words).lower(),
            poll=poll,
            state=state_of(access, settings, poll, self._fleet.now()),
        )

    def _credential_changed(self, _: str) -> None:
        self._changed_all = True
        self._current.forget()

    def _desired_changed(self, key: str) -> None:
        """A change by an operator is shown at once."""
        self._current.forget()
        if not self._views:
            return
        if key.startswith(WORKER_PREFIX):
            self._changed.add(key.removeprefix(WORKER_PREFIX))
        elif key.startswith(SITE_PREFIX):
            site = key.removeprefix(SITE_PREFIX)
            self._changed.update(name for name, view in self._views.items() if view.site == site)


def state_of(access: WorkerAccess, settings: WorkerSettings, poll: LastPoll | None, now: float) -> WorkerState:
    """The state of a worker.

    Args:
        access: The worker's credential.
        settings: What operators want now.
        poll: Its last one.
        now: By the clock of `Fleet`.
    """
    return worker_state(
        is_revoked=access.revoked_at is not None,
        was_seen=poll is not None,
        in_conflict=poll is not None and poll.in_conflict,
        is_offline=poll is not None and now - poll.heard_at > poll.offline_after_s,
        is_healthy=poll is None or poll.is_healthy,
        is_draining=poll is not None and poll.draining,
        availability=settings.availability,
    )
