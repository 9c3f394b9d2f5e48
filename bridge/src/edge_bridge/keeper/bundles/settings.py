"""What a keeper does about bundles."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from edge_bridge.bundles.listing import Limits
from edge_bridge.bundles.options import limits, requirements
from edge_bridge.settings import SECTION, Conf, SettingsError, positive, text
from edge_broker.bundles.lock import LIFE_S

ALL = "*"
"""Among the names of the bundles that a keeper publishes."""
LEAST_MIN_AGE_S = 600
"""An executor may have a job in hand for some time that names a version and has no record yet."""


@dataclass(frozen=True, slots=True)
class BundleSettings:
    """What a keeper does about bundles.

    Attributes:
        publish: The names of the bundles that it publishes, or `ALL`.
        requirements: By bundle, the path of a requirements file by queue; as `PublishedVersion.requirements`.
        limits: How large a bundle may be.
        min_age: For which a version is kept at least when it is not needed any more.
        interval: Between two searches for old versions.
        first_after_s: Before the first search: the start of a keeper has more important work.
        lock_life_s: After which another keeper replaces one that died.
    """

    publish: frozenset[str] = frozenset()
    requirements: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    min_age: timedelta = timedelta(days=1)
    interval: timedelta = timedelta(hours=1)
    first_after_s: float = 60.0
    lock_life_s: float = 2 * LIFE_S

    def publishes(self, name: str) -> bool:
        """Whether a keeper publishes the bundle with this name."""
        return ALL in self.publish or name in self.publish


def bundle_settings(conf: Conf) -> BundleSettings:
    """What the keeper does about bundles.

    Raises:
        SettingsError: A value is wrong.
    """
    names = (name.strip() for name in text(conf, "publish_bundles").split(","))
    if (min_age_s := positive(conf, "bundle_min_age")) < LEAST_MIN_AGE_S:
        raise SettingsError(f"[{SECTION}] bundle_min_age is {min_age_s}, must be at least {LEAST_MIN_AGE_S}")
    return BundleSettings(
        publish=frozenset(filter(None, names)),
        requirements=_requirements(text(conf, "publish_requirements")),
        limits=limits(conf),
        min_age=timedelta(seconds=min_age_s),
    )


def _requirements(value: str) -> dict[str, dict[str, str]]:
    """Of each bundle that the option names.

    Raises:
        SettingsError: It is no object of paths by bundle.
    """
    option = f"[{SECTION}] publish_requirements"
    example = '{"dags-folder": "requirements.txt"}'
    try:
        given = json.loads(value or "{}")
    except json.JSONDecodeError as error:
        raise SettingsError(f"{option} is no JSON ({error}): write an object such as {example}") from None
    if not isinstance(given, dict):
        raise SettingsError(f"{option} must be an object by bundle, such as {example}")
    try:
        return {bundle: requirements(files) for bundle, files in given.items()}
    except SettingsError as error:
        raise SettingsError(f"{option}: {error}") from None
