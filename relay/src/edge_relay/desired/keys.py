"""The keys of `edge_desired`: `worker.<name>`, `site.<name>` and `queue.<queue as one token>`."""

from edge_broker.subjects import queue_token
from edge_schemas.admin.desired import QUEUE_PREFIX, SITE_PREFIX, WORKER_PREFIX


def worker_key(worker: str) -> str:
    """The key of a worker."""
    return WORKER_PREFIX + worker


def site_key(site: str) -> str:
    """The key of a site."""
    return SITE_PREFIX + site


def queue_key(team: str | None, queue: str) -> str:
    """The key of a queue."""
    return QUEUE_PREFIX + queue_token(team, queue)
