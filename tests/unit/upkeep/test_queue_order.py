"""Which waiting job gets its message next, and how many may have one."""

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from edge_broker.subjects import consumer_name
from edge_schemas.wire.jobs import Job, JobKind, TaskWork
from edge_schemas.wire.worker_entry import QueueDemand, RelayDemand
from edge_upkeep.order.demand import EXPIRES_S, Demand
from edge_upkeep.order.queue_order import STUCK_S, QueueOrder
from edge_upkeep.order.rank import rank
from support.relay.jobs import command_job, make_auxiliary_job, make_job, payload_job

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """Monotonic seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Scene:
    """An order with a clock, a demand and a number of started jobs that a test sets."""

    def __init__(self, ahead: int = 2) -> None:
        self.clock = Clock()
        self.demand = Demand(self.clock)
        self.started = 0
        self.most: int | None = None
        self.order = QueueOrder(
            rank, self.demand, lambda *_: self.started, lambda *_: ahead, clock=self.clock, most=lambda *_: self.most
        )

    def free(self, slots: int, queue: str = "default", relay: str = "r1", kind: JobKind = JobKind.TASK) -> None:
        at_queue = QueueDemand(consumer=consumer_name(None, queue, kind), free_slots=slots)
        self.demand.report(RelayDemand(relay=relay, queues=(at_queue,)))

    def hold(self, *jobs: Job) -> None:
        for job in jobs:
            self.order.hold(job)


def weighted(weight: object, at: int = 0, queue: str = "default") -> Job:
    """A job of a task with this weight, handed out at this second."""
    job = make_job(queue)
    assert isinstance(job.work, TaskWork)
    work = job.work.model_copy(update={"workload": {"ti": {"priority_weight": weight}}})
    return job.model_copy(update={"work": work, "published_at": NOW + timedelta(seconds=at)})


def ids(*jobs: Job) -> list[str]:
    return [job.id for job in jobs]


def test_the_highest_weight_is_first_and_equal_weights_by_arrival() -> None:
    """Whatever the order of arrival."""
    low, older, newer, high = weighted(1, 0), weighted(5, 1), weighted(5, 2), weighted(100, 3)
    scene = Scene(ahead=4)
    scene.hold(newer, low, high, older)
    assert scene.order.due() == ids(high, older, newer, low)


def test_auxiliary_jobs_are_before_all_tasks() -> None:
    """A deadline's callback is not behind a backlog."""
    auxiliary, task = make_auxiliary_job("default"), weighted(1_000_000)
    scene = Scene()
    scene.hold(task, auxiliary)
    assert scene.order.due() == ids(auxiliary, task)


def test_what_a_stored_job_may_lack_or_have_otherwise_is_the_default_weight() -> None:
    """A record of another version must not stop the others."""
    odd = [weighted(None), weighted("7"), make_job()]
    assert {rank(job)[1] for job in odd} == {-1}
    scene = Scene(ahead=10)
    scene.hold(*odd, weighted(10**30), weighted(-5))
    assert len(scene.order.due()) == 5


def test_a_later_job_of_high_weight_overtakes_a_backlog() -> None:
    """Only the messages that are in NATS already are before it."""
    backlog = [weighted(1, at) for at in range(500)]
    scene = Scene(ahead=4)
    scene.hold(*backlog)
    published = scene.order.due()
    assert published == ids(*backlog[:4])
    high = weighted(100, 1000)
    scene.hold(high)
    assert scene.order.due() == []
    scene.order.leave(published[0])
    assert scene.order.due() == [high.id]


def test_no_more_messages_than_free_slots_and_some_ahead() -> None:
    """Each start makes room for the slot it has taken is gone from the demand too."""
    scene = Scene(ahead=2)
    scene.free(5)
    scene.hold(*(weighted(1, at) for at in range(20)))
    published = scene.order.due()
    assert len(published) == 7
    for job in published[:5]:
        scene.order.leave(job)
        assert scene.order.due() == []
    scene.order.leave(published[5])
    assert len(scene.order.due()) == 1


def test_free_slots_of_all_relays_count_until_a_relay_is_silent() -> None:
    """Demand that never comes leaves the least number of messages."""
    scene = Scene(ahead=1)
    scene.free(2, relay="r1")
    scene.clock.now += EXPIRES_S / 2
    scene.free(3, relay="r2")
    assert scene.demand.free("default") == 5
    scene.clock.now += EXPIRES_S / 2 + 0.1
    assert scene.demand.free("default") == 3
    scene.clock.now += EXPIRES_S
    scene.hold(weighted(1), weighted(1))
    assert len(scene.order.due()) == 1


def test_many_started_jobs_allow_more_messages() -> None:
    """Many slots may become free at once."""
    scene = Scene(ahead=2)
    scene.started = 40
    scene.hold(*(weighted(1, at) for at in range(20)))
    assert len(scene.order.due()) == 10


def test_queues_do_not_share() -> None:
    """A queue that nobody serves takes nothing from another one."""
    scene = Scene(ahead=1)
    dead, alive = [weighted(9, n, "dead") for n in range(3)], [weighted(1, n, "alive") for n in range(3)]
    scene.hold(*dead, *alive)
    assert sorted(scene.order.due()) == sorted(ids(dead[0], alive[0]))
    scene.free(2, "alive")
    assert scene.order.due_at_all() == ids(*alive[1:])


def test_messages_that_nobody_takes_do_not_block_the_others() -> None:
    """Workers have released their jobs, for instance, while slots stay free."""
    scene = Scene(ahead=1)
    jobs = [weighted(1, at) for at in range(6)]
    scene.free(1)
    scene.hold(*jobs)
    assert scene.order.due() == ids(*jobs[:2])
    while scene.clock.now < 1000 + STUCK_S + 1:
        scene.clock.now += 1
        scene.free(1)
    assert scene.order.due_at_all() == ids(*jobs[2:4])
    scene.free(1)
    assert scene.order.due_at_all() == []


def test_what_nobody_takes_keeps_nothing_back_again() -> None:
    """Not even in a busy queue, where slots are free for moments only."""
    scene = Scene(ahead=1)
    odd, jobs = weighted(9), [weighted(1, at) for at in range(5)]
    scene.free(1)
    scene.hold(odd)
    assert scene.order.due() == [odd.id]
    while scene.clock.now < 1000 + STUCK_S + 1:
        scene.clock.now += 1
        scene.free(1)
        assert scene.order.due_at_all() == []
    scene.hold(*jobs)
    scene.free(0)
    for job in jobs:
        assert scene.order.due_at_all() == [job.id]
        scene.order.leave(job.id)


def test_released_jobs_keep_nothing_back() -> None:
    """They are offered again after a pause."""
    scene = Scene(ahead=1)
    odd, other, last = (weighted(1, at) for at in range(3))
    scene.hold(odd, other, last)
    assert scene.order.due() == [odd.id]
    scene.order.has_message(odd, was_released=True)
    assert scene.order.due() == [other.id]
    scene.order.leave(odd.id)
    assert scene.order.due() == []


def test_auxiliary_jobs_that_no_worker_may_run_keep_no_task_back() -> None:
    """Workers run callbacks only where their owner allows it."""
    scene = Scene(ahead=2)
    auxiliary = [make_auxiliary_job("default") for _ in range(20)]
    tasks = [weighted(1, at) for at in range(3)]
    scene.hold(*tasks, *auxiliary)
    assert scene.order.due() == ids(*auxiliary, *tasks[:2])
    scene.order.leave(tasks[0].id)
    assert scene.order.due() == [tasks[2].id]


def test_messages_of_a_dead_scheduler_count() -> None:
    """Its successor finds them."""
    scene = Scene(ahead=1)
    theirs, ours = weighted(1), weighted(1)
    scene.order.has_message(theirs, was_released=False)
    scene.hold(ours)
    assert scene.order.due() == []
    scene.order.leave(theirs.id)
    assert scene.order.due() == [ours.id]


def test_slots_that_become_free_now_and_then_do_not_deepen_the_queue() -> None:
    """Old messages of a busy queue are deliverable."""
    scene = Scene(ahead=2)
    scene.hold(*(weighted(1, at) for at in range(50)))
    assert len(scene.order.due()) == 2
    for turn in range(60):
        scene.clock.now += 1
        scene.free(turn % 3 == 0)
        scene.free(0)
        assert scene.order.due_at_all() == [] or turn % 3 == 0
    assert len(list(scene.order.waiting())) == 1
    assert next(iter(scene.order.waiting())).held >= 47


def test_a_job_that_leaves_while_held_is_forgotten() -> None:
    """Withdrawn, expired or cleared."""
    scene = Scene(ahead=1)
    first, second, third = (weighted(1, at) for at in range(3))
    scene.hold(first, second, third)
    assert scene.order.due() == [first.id]
    assert scene.order.leave(second.id)
    assert not scene.order.leave(first.id)
    assert not scene.order.leave("unknown")
    assert scene.order.due() == [third.id]
    assert scene.order.held == 0
    scene.order.leave(third.id)
    assert list(scene.order.waiting()) == []


def test_the_memory_of_the_order_is_that_of_its_waiting_jobs() -> None:
    """Nothing grows with the jobs that are over."""
    scene = Scene(ahead=1)
    kept = weighted(9)
    scene.hold(kept)
    for _ in range(10_000):
        job = weighted(1)
        scene.hold(job)
        scene.order.leave(job.id)
    [line] = scene.order._lines.of((None, "default")).values()
    assert len(line.heap) < 200
    scene.order.leave(kept.id)
    assert not scene.order._lines.queues()
    assert not scene.order._line_of


def test_any_sequence_keeps_order_and_bounds() -> None:
    """Random arrivals, starts and reports: of what is held, none has a lower rank than what was just released."""
    random_ = random.Random(1)
    for _ in range(200):
        scene = Scene(ahead=random_.randint(1, 4))
        jobs: dict[str, Job] = {}
        out: set[str] = set()
        free = 0
        for step in range(120):
            action = random_.random()
            if action < 0.5:
                job = weighted(random_.randint(0, 3), step)
                jobs[job.id] = job
                scene.hold(job)
            elif action < 0.8 and jobs:
                gone = random_.choice(sorted(jobs))
                was_held = scene.order.leave(gone)
                assert was_held is (gone not in out)
                free -= not was_held
                out.discard(gone)
                del jobs[gone]
            else:
                free = random_.randint(0, 5)
                scene.free(free)
            free = max(0, free)
            due = scene.order.due_at_all()
            ranks = [rank(jobs[job]) for job in due]
            assert all(before <= after for before, after in pairwise(ranks))
            out.update(due)
            held = [rank(job) for name, job in jobs.items() if name not in out]
            assert not due or not held or ranks[-1] <= min(held)
            assert len(held) == scene.order.held
            assert not due or len(out) <= free + scene.order._ahead(None, "default")
            assert not held or len(out) >= scene.order._ahead(None, "default")


def test_free_slots_of_one_kind_release_no_jobs_of_another() -> None:
    """Each kind has its own few messages ahead, and its own order."""
    scene = Scene(ahead=1)
    tasks, commands = [weighted(1, at) for at in range(4)], [command_job(priority=number) for number in (3, 2, 1)]
    scene.hold(*tasks)
    for job in commands:
        scene.order.hold(job)
    assert sorted(scene.order.due()) == sorted([tasks[0].id, commands[0].id])
    scene.free(1, kind=JobKind.COMMAND)
    assert len(scene.order.due_at_all()) == 1
    [waiting] = scene.order.waiting()
    assert waiting.held == 4, "one figure for a queue"


def test_a_limit_is_shared_by_all_kinds_and_the_lowest_rank_is_next() -> None:
    """Whichever kind has left the room."""
    scene = Scene(ahead=10)
    scene.most = 2
    payloads = [payload_job(priority=priority) for priority in (0, 0, 0)]
    callback, tasks = make_auxiliary_job("default"), [weighted(5), weighted(9)]
    scene.hold(*payloads, *tasks, callback)
    assert scene.order.due() == ids(callback, tasks[1])
    scene.order.leave(tasks[1].id)
    assert scene.order.due() == [tasks[0].id]
    scene.order.leave(callback.id)
    scene.order.leave(tasks[0].id)
    assert len(scene.order.due()) == scene.most
    assert scene.order.held == 1


def test_a_limit_of_an_operator_counts_messages_and_started_jobs() -> None:
    """However many slots are free; auxiliary jobs do not wait."""
    scene = Scene()
    scene.most = 3
    scene.free(10)
    jobs = [weighted(1, at) for at in range(6)]
    scene.hold(*jobs)
    assert scene.order.due() == ids(*jobs[:3])
    auxiliary = make_auxiliary_job()
    scene.hold(auxiliary)
    assert scene.order.due() == [auxiliary.id]
    scene.order.leave(jobs[0].id)
    scene.started = 1
    scene.order.leave(auxiliary.id)
    assert scene.order.due() == []
    scene.started = 0
    scene.order.ended(None, "default")
    assert scene.order.due() == [jobs[3].id]
    scene.most = None
    assert scene.order.due_at_all() == ids(*jobs[4:])
