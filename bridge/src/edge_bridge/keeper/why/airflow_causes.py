"""Which of Airflow's own rules keeps a task from an executor, as its scheduler decides. Pure."""

from datetime import datetime

from edge_bridge.keeper.why.task_facts import PoolFacts, RunVersion, TaskFacts
from edge_schemas.admin.why import Cause, CauseCode
from edge_schemas.why.wording import cause, clean, counted, listed, moment, since_text

_C = CauseCode
FINISHED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
_PAUSES = {
    "up_for_retry": "It waits for its next try: its retry delay is not over",
    "up_for_reschedule": "It is a sensor that waits for its next check",
    "deferred": "It is deferred: its trigger in the triggerer has not fired yet",
    "awaiting_input": "It waits for the answer of a person",
    "restarting": "It is being restarted: its former run was cleared and has to end first",
}


def airflow_causes(task: TaskFacts, now: datetime) -> tuple[Cause, ...]:
    """The causes, the one that blocks most first; empty if a job has them: it is queued at Edge Relay or runs there."""
    if task.state in FINISHED:
        when = "" if task.since is None else f" at {moment(task.since, now)}"
        return (cause(_C.ENDED, f"The task has ended{when}: {task.state}", task.since, state=task.state),)
    if not task.is_ours:
        text = (
            f"The task belongs to the executor {clean(task.executor)}, not to Edge Relay "
            f"(state {task.state or 'none'}); set its executor to run it at the edge"
        )
        return (cause(_C.NOT_AT_THE_EDGE, text, executor=task.executor, state=task.state),)
    if task.state in {"queued", "running"}:
        return () if task.dispatch is not None else (_without_dispatch(task),)
    if task.state in _PAUSES:
        text = f"{_PAUSES[task.state]}{since_text(task.since, now)}"
        return (cause(_C.NOT_QUEUED_DEPENDENCIES, text, task.since, state=task.state),)
    found = [*_scheduler(task, now), *_run(task)]
    found += _limits(task) if task.state == "scheduled" else _dependencies(task)
    return tuple(found) or (_nothing(task),)


def bundle_not_published(runs: RunVersion, since: datetime | None) -> Cause:
    """The executor keeps a queued task until the version of its run is published."""
    bundle, version = clean(runs.bundle), clean(runs.version)
    text = (
        f"The executor waits until version {version} of bundle {bundle} is published, for [edge_relay] bundle_wait at "
        "most; the log of the dag-processor, or of the keeper that publishes the bundle, says why it is not "
        "(bundle_not_published)"
    )
    return cause(_C.BUNDLE_NOT_PUBLISHED, text, since, bundle=runs.bundle, version=runs.version)


def _without_dispatch(task: TaskFacts) -> Cause:
    text = (
        f"It is {task.state} without the id of a job: a task must name its executor by its alias or module path, "
        f"not {clean(task.executor)}"
    )
    return cause(_C.NOT_PUBLISHED, text, executor=task.executor)


def _scheduler(task: TaskFacts, now: datetime) -> list[Cause]:
    if task.scheduler_alive:
        return []
    seen = task.scheduler_seen_at
    when = "none is registered as running" if seen is None else f"the last heartbeat was at {moment(seen, now)}"
    return [cause(_C.NOT_QUEUED_SCHEDULER, f"No scheduler of Airflow is alive: {when}; start one", seen)]


def _run(task: TaskFacts) -> list[Cause]:
    run = task.run
    found = []
    if run.dag_paused:
        found.append(cause(_C.NOT_QUEUED_LIMIT, "The DAG is paused in Airflow; unpause it", limit="is_paused"))
    if run.state == "queued":
        if run.active is not None and run.active.is_reached:
            text = (
                f"Its run is queued: {run.active.used:,} runs of the DAG are active and {run.active.name} is "
                f"{run.active.limit:,}; wait for one to end, or raise it"
            )
            found.append(
                cause(_C.NOT_QUEUED_LIMIT, text, limit=run.active.name, used=run.active.used, of=run.active.limit)
            )
        elif not run.dag_paused:
            found.append(cause(_C.NOT_QUEUED_SCHEDULER, "Its run is queued: the scheduler starts it in its next loop"))
    elif run.state != "running":
        text = f"Its run is {clean(run.state)}: nothing more is scheduled in it; clear the task to run it again"
        found.append(cause(_C.NOT_QUEUED_LIMIT, text, limit="run", state=run.state))
    return found


def _limits(task: TaskFacts) -> list[Cause]:
    found = [
        cause(
            _C.NOT_QUEUED_PARALLELISM if usage.name.endswith("parallelism") else _C.NOT_QUEUED_LIMIT,
            f"{usage.name} is reached: {usage.used:,} of {usage.limit:,}; wait for a task to end, or raise it",
            limit=usage.name,
            used=usage.used,
            of=usage.limit,
        )
        for usage in task.limits
        if usage.is_reached
    ]
    pool = _pool(task)
    # The scheduler checks parallelism before pools, and pools before the limits of the DAG.
    place = sum(one.code is _C.NOT_QUEUED_PARALLELISM for one in found)
    return [*found[:place], *pool, *found[place:]] or _priority(task.pool)


def _pool(task: TaskFacts) -> list[Cause]:
    pool = task.pool
    if pool is None:
        name = clean(task.pool_name)
        text = f"Its pool {name} does not exist; create it, or change the task's pool"
        return [cause(_C.NOT_QUEUED_POOL, text, pool=task.pool_name)]
    if pool.slots is None:
        return []
    name, free = clean(pool.name), max(0, pool.slots - pool.used)
    if pool.needed > pool.slots:
        text = (
            f"It needs {counted(pool.needed, 'slot')} of pool {name}, which has {pool.slots:,} in all; enlarge the pool"
        )
    elif pool.needed > free:
        before = (
            f", and {counted(pool.heavier, 'scheduled task')} of higher weight come before it" if pool.heavier else ""
        )
        text = (
            f"Pool {name} has {pool.used:,} of {pool.slots:,} slots in use and the task needs {pool.needed:,}{before}; "
            "wait, or enlarge the pool"
        )
    else:
        return []
    return [
        cause(
            _C.NOT_QUEUED_POOL,
            text,
            pool=pool.name,
            used=pool.used,
            of=pool.slots,
            needed=pool.needed,
            ahead=pool.heavier,
        )
    ]


def _priority(pool: PoolFacts | None) -> list[Cause]:
    if pool is None or not pool.heavier:
        return []
    text = (
        f"It comes after {counted(pool.heavier, 'scheduled task')} of pool {clean(pool.name)} with a higher weight, "
        "which the scheduler queues first"
    )
    return [cause(_C.NOT_QUEUED_LIMIT, text, limit="priority", ahead=pool.heavier, pool=pool.name)]


def _dependencies(task: TaskFacts) -> list[Cause]:
    if not task.undone:
        return []
    text = f"It waits for {listed(task.undone)}"
    return [cause(_C.NOT_QUEUED_DEPENDENCIES, text, undone=list(task.undone))]


def _nothing(task: TaskFacts) -> Cause:
    what = "queues" if task.state == "scheduled" else "schedules"
    text = f"Nothing holds it back: the scheduler {what} it in one of its next loops; if not, read the scheduler's log"
    return cause(_C.NOT_QUEUED_SCHEDULER, text)
