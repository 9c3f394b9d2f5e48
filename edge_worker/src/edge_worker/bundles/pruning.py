"""Which versions are removed: those not used for long, then the least recently used ones, never one in use."""

from collections.abc import Iterable
from dataclasses import dataclass

from edge_worker.settings import Settings


@dataclass(frozen=True, slots=True)
class BundleLimits:
    """What the owner of the machine allows.

    Attributes:
        version_max_bytes: Of the files of one version.
        cache_max_bytes: Of the files of all versions. Those in use are kept in any case.
        keep_s: How long a version is kept that no job uses.
        reserve_bytes: What must stay free on the disk.
    """

    version_max_bytes: int
    cache_max_bytes: int
    keep_s: float
    reserve_bytes: int


def limits_of(settings: Settings) -> BundleLimits:
    """As the owner has set them."""
    keep_s = settings.bundle_keep_days * 86400
    return BundleLimits(settings.bundle_max_bytes, settings.bundle_cache_max_bytes, keep_s, settings.disk_reserve_bytes)


@dataclass(frozen=True, slots=True)
class CachedVersion:
    """A version on this disk.

    Attributes:
        bundle: Of the job that it was fetched for; empty if that cannot be read.
        size: Bytes of its files.
        used_at: When a job got it the last time, by the machine's wall clock.
        in_use: The folder of a job names it.
    """

    digest: str
    bundle: str
    size: int
    used_at: float
    in_use: bool


def to_remove(versions: Iterable[CachedVersion], limits: BundleLimits, *, now: float, room: int = 0) -> list[str]:
    """The digests of the versions to be removed, in order.

    Args:
        versions: All versions.
        limits: The owner's.
        now: By the machine's wall clock.
        room: Bytes that are needed besides on the disk: as many are freed, if the versions have them.
    """
    versions = list(versions)
    total, freed, removed = sum(version.size for version in versions), 0, []
    for version in sorted(versions, key=lambda version: (version.used_at, version.digest)):
        is_old = now - version.used_at >= limits.keep_s
        if not version.in_use and (is_old or total - freed > limits.cache_max_bytes or freed < room):
            removed.append(version.digest)
            freed += version.size
    return removed
