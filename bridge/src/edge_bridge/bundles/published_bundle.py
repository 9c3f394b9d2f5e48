"""A DAG bundle that publishes another one, for the dag-processor; elsewhere it finds the published versions.

Used by its dotted path in `[dag_processor] dag_bundle_config_list`, in every process that reads it: only `initialize()`
and `refresh()` do work.
"""

import importlib
import socket
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import structlog
from airflow.configuration import conf
from airflow.dag_processing.bundles import base

from edge_bridge.bundles import options
from edge_bridge.bundles.connection import with_broker
from edge_bridge.bundles.fetching import VersionMissing, fetch_version
from edge_bridge.bundles.hashing import TreeHasher
from edge_bridge.bundles.refusals import BundleRefused, TreeChanged
from edge_bridge.bundles.snapshots import Snapshots
from edge_bridge.settings import SettingsError, broker_settings
from edge_broker.bundles.lock import LockBusy, LockLost
from edge_broker.bundles.published import PublishedBundles
from edge_broker.bundles.publishing import BundlePublisher, Publication, PublishRefused, Wanted
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_broker.permissions import PUBLISHER
from edge_schemas.bundles.manifest import is_digest

log = structlog.get_logger(__name__)

CHECK_S = 60.0
"""An unchanged version is compared with NATS so often: NATS may have lost it."""
FAILURES = (
    *(BundleRefused, TreeChanged, PublishRefused, SettingsError),
    *(BrokerUnavailable, JetStreamError, LockBusy, LockLost, OSError),
)


class PublishFailed(Exception):
    """A bundle can't be published, and there is no earlier version to parse."""


class _Known(NamedTuple):
    """What this process knows to be published, and since when."""

    digest: str
    version: str | None
    at: float


class PublishedBundle(base.BaseDagBundle):
    """Publishes the bundle `inner` each time that it is refreshed, and reports the digest as its version.

    Args:
        inner: The bundle itself: `classpath`, and `kwargs` for it, as in Airflow's own configuration.
        requirements: The path of a requirements file in the bundle that its tasks need; or one by queue, `*` for all
            other queues.
        max_bytes: Of all files. None for `[edge_relay] bundle_max_bytes`.
        max_files: How many. None for `[edge_relay] bundle_max_files`.
        others: As of every bundle.
    """

    supports_versioning = True

    def __init__(
        self,
        *,
        inner: Mapping[str, Any],
        requirements: str | Mapping[str, str] | None = None,
        max_bytes: int | None = None,
        max_files: int | None = None,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        self._inner_config = inner
        self.requirements = options.requirements(requirements)
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._known: _Known | None = None
        self._shown: str | None = None
        self._version_path: Path | None = None

    @cached_property
    def inner(self) -> base.BaseDagBundle:
        """The bundle that is published."""
        return make_inner(self._inner_config, self.name, None)

    @cached_property
    def hasher(self) -> TreeHasher:
        """Remembers what it has read.

        Raises:
            SettingsError: A limit is wrong.
        """
        return TreeHasher(options.limits(conf, self._max_bytes, self._max_files))

    @cached_property
    def _snapshots(self) -> Snapshots:
        return Snapshots(self.base_dir / "published", self.hasher)

    @property
    def path(self) -> Path:
        """In the dag-processor the copy of what was published; for a version its own folder."""
        if self.version is not None:
            return self._version_path or self.versions_dir / self.version
        return self.inner.path if self._shown is None else self._snapshots.path

    def initialize(self) -> None:
        """Prepare the inner bundle, or get the version's files.

        Raises:
            VersionMissing: The version is not published any more.
            BrokerUnavailable: NATS does not answer.
        """
        if self.version is None:
            self.inner.initialize()
        else:
            self._version_path = self._find_version(self.version)
        super().initialize()

    def refresh(self) -> None:
        """Refresh the inner bundle and publish it, before anything is parsed from it.

        If it can't be published, the version that was published before stays, and the log explains why.

        Raises:
            PublishFailed: There is no earlier version on this machine.
        """
        if self.version is not None:
            return
        if not self.inner.is_initialized:
            self.inner.initialize()
        self.inner.refresh()
        try:
            self._shown = self._publish()
        except FAILURES as error:
            self._shown = self._snapshots.shown()
            if self._shown is None:
                raise PublishFailed(f"bundle {self.name!r} can't be published: {error}") from error
            _report_failure(self.name, self._shown, str(error))

    def get_current_version(self) -> Any:
        """The digest of what `path` shows; None before the first refresh."""
        version = self.version or self._shown
        # Airflow 3.2 has no class for versions.
        kind = getattr(base, "BundleVersion", None)
        return version if kind is None or version is None else kind(version)

    def view_url_template(self) -> str | None:
        """That of the inner bundle, if it holds no version: a digest is no version of the inner bundle."""
        own = super().view_url_template()
        inner = self.inner.view_url_template() if own is None else own
        return inner if own is not None or inner is None or "{" not in inner else None

    def _publish(self) -> str:
        """Publish what is not published, and let `path` show it; returns its digest."""
        manifest = self._snapshots.take(self.inner.path)
        options.check_requirements(self.requirements, manifest)
        version = version_of(self.inner)
        if not self._is_known(manifest.digest, version):
            wanted = Wanted(self.name, manifest, version, self.requirements)
            source = self._snapshots.source(manifest)

            async def publish(broker: Broker) -> Publication | None:
                publisher = BundlePublisher(broker, f"dag-processor on {socket.gethostname()}")
                return None if await publisher.is_published(wanted) else await publisher.publish(wanted, source.read)

            done = with_broker(broker_settings(conf, PUBLISHER), publish)
            if done is not None:
                log.info("bundle_published", bundle=self.name, digest=done.digest, new_bytes=done.new_bytes)
            self._known = _Known(manifest.digest, version, time.monotonic())
        self._snapshots.show(manifest.digest)
        return manifest.digest

    def _is_known(self, digest: str, version: str | None) -> bool:
        known = self._known
        return known is not None and known[:2] == (digest, version) and time.monotonic() - known.at < CHECK_S

    def _find_version(self, version: str) -> Path:
        """The folder with the files of a version, fetched if it is not here."""
        if is_digest(version) and (self.versions_dir / version).is_dir():
            return self.versions_dir / version
        with self.lock():
            digest = with_broker(options.reader_settings(conf), lambda broker: self._fetch(broker, version))
        if digest is not None:
            return self.versions_dir / digest
        # A run from before the bundle was published: its version is one of the inner bundle.
        inner = make_inner(self._inner_config, self.name, version)
        if not inner.supports_versioning:
            raise VersionMissing(f"version {version} of bundle {self.name!r} is not published")
        inner.initialize()
        return inner.path

    async def _fetch(self, broker: Broker, version: str) -> str | None:
        """Fetch a version unless it is here; returns its digest, None if it is not published."""
        digest = await PublishedBundles(broker).digest_of(self.name, version)
        if digest is not None:
            await fetch_version(broker, digest, self.versions_dir / digest)
        return digest


def _report_failure(bundle: str, kept: str, error: str) -> None:
    """In the log, and in Airflow's own metrics: the dag-processor exports none of ours."""
    from airflow.observability.stats import Stats

    log.error("bundle_not_published", bundle=bundle, kept=kept, error=error)
    try:
        Stats.incr("edge_relay.bundle_not_published", tags={"bundle_name": bundle})
    except Exception:
        # A failing metrics client must not stop the parsing of the version that is kept.
        log.exception("airflow_metrics_failed", metric="bundle_not_published")


def make_inner(config: Mapping[str, Any], name: str, version: str | None) -> base.BaseDagBundle:
    """A bundle as Airflow's configuration describes one, with this name.

    Raises:
        SettingsError: It is no bundle.
    """
    try:
        module, _, class_name = config["classpath"].rpartition(".")
        kind = getattr(importlib.import_module(module), class_name)
        bundle: base.BaseDagBundle = kind(name=name, version=version, **config.get("kwargs", {}))
    except (KeyError, TypeError, ValueError, ImportError, AttributeError) as error:
        raise SettingsError(
            f"bundle {name!r}: inner must have a classpath, and kwargs that the class accepts: {error!r}"
        ) from error
    return bundle


def version_of(bundle: base.BaseDagBundle) -> str | None:
    """How Airflow knows the version that the bundle shows; None if it has no versions."""
    version: Any = bundle.get_current_version()
    return version if version is None or isinstance(version, str) else version.version
