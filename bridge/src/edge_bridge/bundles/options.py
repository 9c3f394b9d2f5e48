"""What a bundle is configured with: limits, requirements, and the user of NATS."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from edge_bridge.bundles.listing import Limits
from edge_bridge.bundles.refusals import BundleRefused
from edge_bridge.settings import Conf, SettingsError, broker_settings, positive
from edge_broker.bundles.entries import ALL_QUEUES
from edge_broker.connection.settings import BrokerSettings
from edge_broker.permissions import PUBLISHER, READER
from edge_schemas.bundles.manifest import Manifest

_Text = Annotated[str, Field(min_length=1, max_length=1024)]
_REQUIREMENTS: TypeAdapter[dict[str, str]] = TypeAdapter(dict[_Text, _Text])


def limits(conf: Conf, max_bytes: int | None = None, max_files: int | None = None) -> Limits:
    """How large a bundle may be: as it says itself, else as the configuration says.

    Raises:
        SettingsError: A value is wrong.
    """
    try:
        return Limits(
            positive(conf, "bundle_max_bytes") if max_bytes is None else max_bytes,
            positive(conf, "bundle_max_files") if max_files is None else max_files,
        )
    except ValueError as error:
        raise SettingsError(str(error)) from error


def requirements(given: str | Mapping[str, str] | None) -> dict[str, str]:
    """The path of a requirements file by queue, from what a bundle is configured with.

    Raises:
        SettingsError: It is neither a path nor a mapping of queues to paths.
    """
    if given is None:
        return {}
    try:
        return _REQUIREMENTS.validate_python({ALL_QUEUES: given} if isinstance(given, str) else given)
    except ValidationError:
        text = "requirements is neither the path of a file in the bundle nor a mapping of queues to such paths"
        raise SettingsError(text) from None


def check_requirements(wanted: Mapping[str, str], manifest: Manifest) -> None:
    """Check that the files are there.

    Raises:
        BundleRefused: One is not.
    """
    paths = {file.path for file in manifest.files}
    for queue, path in wanted.items():
        if path not in paths:
            raise BundleRefused(f"requirements names {path!r} for queue {queue!r}: the bundle has no such file")


def existing_requirements(wanted: Mapping[str, str], manifest: Manifest) -> dict[str, str]:
    """Those whose file is there: an older version of a bundle may be from before the file."""
    paths = {file.path for file in manifest.files}
    return {queue: path for queue, path in wanted.items() if path in paths}


def reader_settings(conf: Conf) -> BrokerSettings:
    """How to reach NATS to read published versions, as the user that this machine has a password for.

    Raises:
        SettingsError: It has none.
    """
    try:
        return broker_settings(conf, READER)
    except SettingsError:
        return broker_settings(conf, PUBLISHER)
