"""Which submitted jobs may have a message now: none that is delayed, behind another one of its group, or held back.

No I/O. Before a queue's messages of a kind were listed once, none of these jobs gets one: what other replicas have
stored counts.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from datetime import UTC, datetime

from edge_relay.upkeep.order.groups import Groups
from edge_relay.upkeep.order.times import Times
from edge_relay.upkeep.submitted_job import HELD, GroupKey, SubmittedJob
from edge_upkeep.messages import Line
from edge_upkeep.order.queue_order import QueueOrder


class Turns:
    """The submitted jobs that wait and are not parked.

    Args:
        order: Decides which of those that may have a message get one.
        now: The wall clock, by which delays are given.
    """

    def __init__(
        self, order: QueueOrder[SubmittedJob], now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._order = order
        self._now = now
        self._groups = Groups()
        self._delays = Times()
        self._waiting: dict[str, SubmittedJob] = {}
        self._counts: Counter[Line] = Counter()
        self._listed: set[Line] = set()
        self._unlisted: defaultdict[Line, list[str]] = defaultdict(list)

    @property
    def lines(self) -> set[Line]:
        """The kinds in queues with waiting jobs."""
        return {line for line, number in self._counts.items() if number}

    @property
    def unlisted(self) -> set[Line]:
        """Those of them whose messages have not been listed."""
        return set(self._unlisted)

    @property
    def next_at(self) -> datetime | None:
        """A moment before which no delay ends; None without delays."""
        return self._delays.next_at

    def update(self, before: SubmittedJob | None, after: SubmittedJob | None) -> None:
        """A job before and after a change of its record; None if it is not known, or not unfinished."""
        waits_on = before is not None and after is not None and _is_same_wait(before, after)
        if before is not None and not waits_on:
            self._leave(before, after)
        if after is None:
            return
        key = after.group_key
        if key is not None and not after.is_parked:
            if before is not None and before.was_offered and not after.was_offered:
                self._leave_group(key, after.id)  # redriven: it is behind the others
            self._groups.join(key, after.id, was_offered=after.was_offered)
        if not after.may_have_message:
            return
        if not waits_on:
            self._counts[after.line] += 1
        self._waiting[after.id] = after
        if waits_on and before is not None and after.releases > before.releases:
            self._order.has_message(after, was_released=True)
        else:
            self._place(after)

    def tick(self) -> None:
        """Place the jobs whose delay is over."""
        for job in self._delays.due(self._now()):
            self._place(self._waiting[job])

    def list_messages(self, line: Line, with_message: Collection[str], sent_before: Collection[str]) -> list[str]:
        """The messages of a kind in a queue were listed; returns the jobs whose message is missing.

        Args:
            line: Which.
            with_message: The jobs that have one.
            sent_before: What `sent` returned before the list was read.
        """
        for name in with_message:
            job = self._waiting.get(name)
            if job is None or job.line != line:
                continue
            if job.group_key is not None:
                self._groups.put_first(job.group_key, name)
            self._delays.discard(name)
            self._order.found_message(job, was_released=job.releases > 0)
        self._listed.add(line)
        for name in self._unlisted.pop(line, ()):
            if name in self._waiting:
                self._place(self._waiting[name])
        missing = set(sent_before).intersection(self.sent(line)).difference(with_message)
        return [name for name in sent_before if name in missing]

    def is_sent(self, job: str) -> bool:
        """Whether the job waits and has a message, or gets one now."""
        waiting = self._waiting.get(job)
        return waiting is not None and job in self.sent(waiting.line)

    def sent(self, line: Line) -> list[str]:
        """The jobs of a kind in a queue that have a message, or get one now."""
        return self._order.with_message(*line)

    def _place(self, job: SubmittedJob) -> None:
        if job.line not in self._listed:
            self._unlisted[job.line].append(job.id)
        elif job.not_before is not None and job.not_before > self._now():
            self._delays.set(job.id, job.not_before)
        elif job.group_key is None or self._groups.first(job.group_key) == job.id:
            self._order.hold(job)

    def _leave(self, before: SubmittedJob, after: SubmittedJob | None) -> None:
        """The job no longer waits as it did; perhaps it waits again."""
        if before.may_have_message:
            self._counts[before.line] -= 1
            del self._waiting[before.id]
            self._delays.discard(before.id)
            self._order.leave(before.id)
        elif before.state in HELD and (after is None or after.state not in HELD):
            self._order.ended(before.team, before.queue)
        key = before.group_key
        if key is not None and (after is None or after.is_parked):
            self._leave_group(key, before.id)

    def _leave_group(self, key: GroupKey, job: str) -> None:
        self._groups.leave(key, job)
        following = self._waiting.get(self._groups.first(key) or "")
        if following is not None:
            self._place(following)


def _is_same_wait(before: SubmittedJob, after: SubmittedJob) -> bool:
    """A message that the job had before is still its message."""
    return before.may_have_message and after.may_have_message and before.message_id == after.message_id
