"""Chooses the version of the DAG bundle that a job runs. Pure, on what is known of the published versions."""

from dataclasses import dataclass
from typing import Protocol

from edge_schemas.wire.jobs import BundleRef, Job


class Version(Protocol):
    """A published version."""

    @property
    def digest(self) -> str:
        """Of its manifest."""

    def requirements_for(self, queue: str) -> str | None:
        """The path of the requirements file that jobs of a queue need; None if they need none."""


class PublishedVersions(Protocol):
    """What is published."""

    def current(self, bundle: str) -> Version | None:
        """The version that a run without a version gets; None if there is none."""

    def find(self, bundle: str, version: str) -> Version | None:
        """A version as Airflow knows it, which may be a digest itself; None if it is not published."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a job's workload names.

    Attributes:
        version: None for the current one.
    """

    name: str
    version: str | None

    @property
    def text(self) -> str:
        """For people."""
        which = "the current version" if self.version is None else f"version {self.version!r}"
        return f"{which} of bundle {self.name!r}"


class NotPublished(Exception):
    """The bundle is published, but this version of it is not, or not yet."""


def wanted_by(job: Job) -> Wanted | None:
    """The bundle that a job needs; None for a job without one: a connection test, or no job of Airflow's."""
    workload = getattr(job.work, "workload", None)
    info = workload.get("bundle_info") if isinstance(workload, dict) else None
    if not isinstance(info, dict) or not info.get("name"):
        return None
    return Wanted(info["name"], info.get("version"))


def choose(wanted: Wanted, queue: str, published: PublishedVersions) -> BundleRef | None:
    """The published version for a job of this queue; None if the bundle is not published: it has no current version.

    Raises:
        NotPublished: It has one, and this version is not published.
    """
    current = published.current(wanted.name)
    found = current if wanted.version is None else published.find(wanted.name, wanted.version)
    if found is not None:
        return BundleRef(name=wanted.name, digest=found.digest, requirements=found.requirements_for(queue))
    if current is not None:
        raise NotPublished
    return None
