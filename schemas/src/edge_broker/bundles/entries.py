"""The entries of `edge_bundles`. The bundle's name is in each: a key may hold its hash only."""

from pydantic import Field

from edge_schemas.wire.base import Instant, Outbound
from edge_schemas.wire.ids import BundleDigest

ALL_QUEUES = "*"
"""In `PublishedVersion.requirements`: all queues that are not named."""


class PublishedVersion(Outbound):
    """A version of a bundle whose manifest and pieces are all in the store; key `<bundle>.published.<digest>`.

    Attributes:
        name: Airflow's name for the bundle.
        files: How many.
        size: Bytes of all files.
        stored_bytes: What it added to the store, compressed; what it shares with earlier versions is not counted.
        at: When it was published.
        by: The process that published it.
        requirements: The path of a requirements file in the bundle by queue, `*` for all other queues.
        unneeded_since: Since when no run, DAG or job needs it, as far as a keeper has noted; see `pruner`.
    """

    name: str = Field(min_length=1, max_length=250)
    digest: BundleDigest
    files: int
    size: int
    stored_bytes: int
    at: Instant
    by: str
    requirements: dict[str, str] = Field(default_factory=dict)
    unneeded_since: Instant | None = None

    def requirements_for(self, queue: str) -> str | None:
        """The path of the requirements file that jobs of a queue need; None if they need none."""
        return self.requirements.get(queue, self.requirements.get(ALL_QUEUES))


class CurrentVersion(Outbound):
    """The version that a run without a version gets; key `<bundle>.current`.

    Attributes:
        at: Since when.
        by: The process that made it current.
    """

    name: str
    digest: BundleDigest
    at: Instant
    by: str


class KnownVersion(Outbound):
    """The digest of a version as Airflow knows it, such as a commit; key `<bundle>.version.<version>`."""

    name: str
    version: str
    digest: BundleDigest
