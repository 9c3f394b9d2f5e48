"""Gives each new job the version of its DAG bundle; a job whose version is not published yet waits, for a limited time.

Airflow may create a run of a version as soon as the dag-processor has seen it. A keeper that publishes the bundle
learns of the version at the same time.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

import structlog

from edge_bridge.executor.bundles.choice import NotPublished, PublishedVersions, Wanted, choose, wanted_by
from edge_bridge.executor.publish_queue import Publication
from edge_schemas.wire.jobs import Job

log = structlog.get_logger(__name__)

CHECK_S = 1.0
WARN_EVERY_S = 60.0


class WatchedVersions(PublishedVersions, Protocol):
    """The published versions as the bucket shows them; `BundleMirror`."""

    @property
    def is_complete(self) -> bool:
        """Whether all are known."""


@dataclass(slots=True)
class _Waiting:
    publication: Publication
    wanted: Wanted
    since: float


class VersionChoice:
    """Lives in the portal's loop.

    Until all published versions are known, every job that needs a bundle waits, without a limit, as for NATS itself.

    Args:
        published: What the bucket shows.
        wait_s: How long a job waits for its version.
        on_chosen: Called with a publication whose job names its version, or needs none.
        on_refused: Called with a publication that has waited for too long, and the reason.
    """

    def __init__(
        self,
        published: WatchedVersions,
        wait_s: float,
        on_chosen: Callable[[Publication], None],
        on_refused: Callable[[Publication, str], None],
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._published = published
        self._wait_s = wait_s
        self._on_chosen = on_chosen
        self._on_refused = on_refused
        self._clock = clock
        self._waiting: dict[str, _Waiting] = {}
        self._warned_at = -WARN_EVERY_S

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, job: str) -> bool:
        return job in self._waiting

    def add(self, publication: Publication) -> None:
        """Choose for a new job, now or later. The executor bounds how many jobs it has in hand."""
        wanted = wanted_by(publication.job)
        if wanted is None:
            self._on_chosen(publication)
        elif not self._try(publication, wanted):
            self._waiting[publication.job.id] = _Waiting(publication, wanted, self._clock())
            log.info("job_waits_for_bundle", job=publication.job.id, bundle=wanted.name, version=wanted.version)

    def discard(self, job: str) -> None:
        """The job waits no longer."""
        self._waiting.pop(job, None)

    def published_changed(self) -> None:
        """Choose again for the jobs that wait: something was published or removed."""
        if not self._published.is_complete:
            return
        for job, waiting in list(self._waiting.items()):
            if self._try(waiting.publication, waiting.wanted):
                del self._waiting[job]

    def published_known(self) -> None:
        """All published versions are known, for the first time or again: the time that jobs wait begins now."""
        now = self._clock()
        for waiting in self._waiting.values():
            waiting.since = now
        self.published_changed()

    async def run(self) -> None:
        """Refuse the jobs that have waited for too long, forever."""
        while True:
            await asyncio.sleep(CHECK_S)
            self.check()

    def check(self) -> None:
        """Refuse the jobs that have waited for too long."""
        if not self._published.is_complete:
            self._warn()
            return
        before = self._clock() - self._wait_s
        for job in [job for job, waiting in self._waiting.items() if waiting.since <= before]:
            waiting = self._waiting.pop(job)
            self._on_refused(waiting.publication, _reason(waiting.wanted, self._wait_s))

    def _try(self, publication: Publication, wanted: Wanted) -> bool:
        if not self._published.is_complete:
            return False
        job: Job = publication.job
        try:
            chosen = choose(wanted, job.queue, self._published)
        except NotPublished:
            return False
        publication.job = job.model_copy(update={"bundle": chosen})
        self._on_chosen(publication)
        return True

    def _warn(self) -> None:
        """At most once a minute."""
        if self._waiting and self._clock() - self._warned_at >= WARN_EVERY_S:
            self._warned_at = self._clock()
            log.warning(
                "published_bundles_unknown",
                jobs=len(self._waiting),
                what="the published bundles could not be read; these jobs stay queued in Airflow until they are. If "
                "NATS is reachable, run 'edge-relay streams apply'",
            )


def _reason(wanted: Wanted, wait_s: float) -> str:
    return (
        f"{wanted.text} is not published, after a wait of {wait_s:g} s ([edge_relay] bundle_wait). "
        "'airflow edge-relay bundles list' shows what is; the log of the dag-processor, or of the keeper that "
        "publishes the bundle, says why this version is not. Then clear the task"
    )
