"""Reads the settings from flags, environment and a TOML file, in that order of precedence.

A variable with an empty value counts as not set.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from edge_service.text_files import read_text_file
from edge_worker.settings import PREFIX, Settings, SettingsError, default_state_dir


def load_settings(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    config: Path | None = None,
) -> Settings:
    """Settings from flags, then environment, then a TOML file.

    Args:
        flags: By field name; `None` means that the flag was not given.
        environ: The environment; that of the process unless given.
        config: The TOML file; also `EDGE_WORKER_CONFIG`.

    Raises:
        SettingsError: A value is wrong or the file cannot be read.
    """
    environ = os.environ if environ is None else environ
    config = config or (Path(environ[PREFIX + "CONFIG"]) if environ.get(PREFIX + "CONFIG") else None)
    values: dict[str, object] = _from_file(config) if config else {}
    values |= {
        name: environ[PREFIX + name.upper()] for name in Settings.model_fields if environ.get(PREFIX + name.upper())
    }
    values |= {name: value for name, value in (flags or {}).items() if value is not None}
    if "state_dir" not in values:
        values["state_dir"] = default_state_dir(environ)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None


def setting_sources(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    config: Path | None = None,
) -> dict[str, str]:
    """The source of each setting that has not its default, in words; the arguments are those of `load_settings`.

    Raises:
        SettingsError: The file cannot be read.
    """
    environ = os.environ if environ is None else environ
    config = config or (Path(environ[PREFIX + "CONFIG"]) if environ.get(PREFIX + "CONFIG") else None)
    found = dict.fromkeys(_from_file(config), f"the file {config}") if config else {}
    found |= {
        name: f"the variable {PREFIX}{name.upper()}"
        for name in Settings.model_fields
        if environ.get(PREFIX + name.upper())
    }
    return found | {
        name: f"the option --{name.replace('_', '-')}" for name, value in (flags or {}).items() if value is not None
    }


def _from_file(path: Path) -> dict[str, object]:
    try:
        values = tomllib.loads(read_text_file(path))
    except (OSError, ValueError) as error:
        msg = f"the settings file {path} cannot be read: {error}"
        raise SettingsError(msg) from None
    if "enroll_token" in values:
        msg = f"{path}: enroll_token belongs in the environment or in a separate file (enroll_token_file)"
        raise SettingsError(msg)
    return values


def _explain(error: ValidationError) -> str:
    """What is wrong, without the value, which may be a secret."""
    lines = []
    for fault in error.errors(include_input=False, include_url=False):
        if fault["type"] == "default_factory_not_called":
            continue  # a default that is made of a value that is wrong
        name = str(fault["loc"][0]) if fault["loc"] else "?"
        text = fault["msg"].removeprefix("Value error, ")
        lines.append(f"{name} (--{name.replace('_', '-')}, {PREFIX}{name.upper()}): {text}")
    return "\n".join(lines)
