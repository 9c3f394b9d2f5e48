"""The rank of a job among those that wait in its queue; the lowest is first."""

from collections.abc import Mapping
from datetime import datetime

from edge_schemas.wire.jobs import Job, TaskWork

DEFAULT_WEIGHT = 1
"""Airflow's own."""

Rank = tuple[bool, int, datetime]


def is_always_first(rank: Rank) -> bool:
    """Whether the job waits for no free slot and no other job: an auxiliary job."""
    return not rank[0]


def rank(job: Job) -> Rank:
    """Auxiliary jobs first, then by descending `priority_weight`, then first come, first served."""
    return job.auxiliary is None, -priority_weight(job), job.published_at


def priority_weight(job: Job) -> int:
    """The weight of a task; the default if the job names none, as a stored job of another version may."""
    task = job.work.workload.get("ti") if isinstance(job.work, TaskWork) else None
    weight = task.get("priority_weight") if isinstance(task, Mapping) else None
    return weight if isinstance(weight, int) else DEFAULT_WEIGHT
