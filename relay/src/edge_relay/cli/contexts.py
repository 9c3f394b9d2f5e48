"""Named relays of this user, in `~/.config/edge-relay/config.toml`. The file names files with tokens, never a token."""

import json
import os
import re
import tomllib
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from edge_relay.cli.output import EXIT_USAGE, Failure, print_done, print_json, print_line, print_table
from edge_service.private_files import make_private_dir, write_file
from edge_service.text_files import read_text_file

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_NOT_IN_TOML = re.compile("[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Context:
    """A relay and the files that a command needs for it."""

    url: str
    access_token_file: str
    ca_file: str | None = None


@dataclass
class Contexts:
    """The content of the file.

    Attributes:
        current: The context that counts unless another one, or an address, is given.
    """

    named: dict[str, Context] = field(default_factory=dict)
    current: str | None = None

    def get(self, name: str) -> Context:
        """The context of this name.

        Raises:
            Failure: There is none.
        """
        if name not in self.named:
            known = ", ".join(sorted(self.named)) or "none yet: 'edge-relay context add' adds one"
            raise Failure(f"there is no context {name!r}; known are {known}", EXIT_USAGE)
        return self.named[name]


def config_file(environ: Mapping[str, str] | None = None) -> Path:
    """Where the contexts are kept."""
    environ = os.environ if environ is None else environ
    base = environ.get("XDG_CONFIG_HOME") or ""
    # The specification says that a relative path is to be ignored.
    folder = Path(base) if Path(base).is_absolute() else Path(environ.get("HOME") or "~").expanduser() / ".config"
    return folder / "edge-relay" / "config.toml"


def read_contexts(path: Path | None = None) -> Contexts:
    """The contexts; none if there is no file.

    Raises:
        Failure: The file can't be read, or is not what this program writes.
    """
    path = path or config_file()
    try:
        content = tomllib.loads(read_text_file(path))
    except FileNotFoundError:
        return Contexts()
    except (OSError, ValueError) as error:
        raise Failure(f"{path} can't be read: {error}", EXIT_USAGE) from None
    try:
        named = {name: Context(**fields) for name, fields in content.get("contexts", {}).items()}
        if not all(isinstance(value, str | None) for one in named.values() for value in asdict(one).values()):
            raise TypeError(path)
    except (TypeError, AttributeError):
        text = f"{path}: each context has url, access_token_file and, if it is needed, ca_file"
        raise Failure(text, EXIT_USAGE) from None
    return Contexts(named, content.get("current"))


def list_contexts(options: Namespace) -> None:
    """`context list`."""
    found = read_contexts()
    if options.json:
        print_json({"current": found.current, "contexts": {name: asdict(one) for name, one in found.named.items()}})
    elif not found.named:
        print_line("There is no context yet. 'edge-relay context add' adds one.")
    else:
        rows = [
            ("*" if name == found.current else "", name, one.url, one.access_token_file, one.ca_file or "-")
            for name, one in sorted(found.named.items())
        ]
        print_table(("", "CONTEXT", "URL", "ACCESS TOKEN FILE", "CA FILE"), rows)


def use_context(options: Namespace) -> None:
    """`context use`."""
    found = read_contexts()
    found.get(options.name)
    found.current = options.name
    _write(found)
    print_done(options, f"Commands now go to {options.name} ({found.get(options.name).url}).", context=options.name)


def add_context(options: Namespace) -> None:
    """`context add`. An existing context of the name is replaced; the first one becomes the current one."""
    if not _NAME.fullmatch(options.name):
        raise Failure("a context's name has letters, digits, '-' and '_', at most 63", EXIT_USAGE)
    if not options.url.startswith(("http://", "https://")) or "@" in options.url:
        raise Failure("--url: an http:// or https:// address without credentials is needed", EXIT_USAGE)
    files = (options.access_token_file, options.ca_file)
    for path in files:
        if path is not None and not path.is_file():
            raise Failure(f"{path} is not a file", EXIT_USAGE)
    token, ca_file = (None if path is None else str(path.absolute()) for path in files)
    found = read_contexts()
    found.named[options.name] = Context(options.url.rstrip("/"), str(token), ca_file)
    found.current = found.current or options.name
    _write(found)
    print_done(options, f"{options.name} is {found.named[options.name].url}.", context=options.name)


def remove_context(options: Namespace) -> None:
    """`context remove`. The token's file stays."""
    found = read_contexts()
    found.get(options.name)
    del found.named[options.name]
    if found.current == options.name:
        found.current = None
    _write(found)
    print_done(options, f"{options.name} is removed; its token's file stays.", context=options.name)


def _write(contexts: Contexts) -> None:
    lines = ["# Written by 'edge-relay context'; comments are lost when it writes again.\n"]
    if contexts.current is not None:
        lines.append(f"current = {_text(contexts.current)}\n")
    for name, context in sorted(contexts.named.items()):
        lines.append(f"\n[contexts.{name}]\n")
        lines += [f"{key} = {_text(value)}\n" for key, value in asdict(context).items() if value is not None]
    path = config_file()
    try:
        if not path.parent.exists():
            make_private_dir(path.parent)
        write_file(path, "".join(lines).encode())
    except OSError as error:
        raise Failure(f"{path} can't be written: {error}") from None


def _text(value: str) -> str:
    """A string of TOML. JSON writes the same, except for characters that no address and no sane path has."""
    if _NOT_IN_TOML.search(value) or not value.isprintable():
        raise Failure(f"{value!r} has control characters", EXIT_USAGE)
    return json.dumps(value, ensure_ascii=False)
