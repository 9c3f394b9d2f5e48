"""`airflow edge-relay bundles publish | list | show`, as NATS user publisher."""

import argparse
import json
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO, TypeVar

from airflow.configuration import conf

from edge_bridge.bundles import options
from edge_bridge.bundles.connection import with_broker
from edge_bridge.bundles.hashing import TreeHasher
from edge_bridge.bundles.published_bundle import FAILURES, PublishedBundle, version_of
from edge_bridge.bundles.tree import PieceSource
from edge_bridge.output import others_to_stderr
from edge_bridge.settings import SettingsError, broker_settings
from edge_broker.bundles.entries import ALL_QUEUES, PublishedVersion
from edge_broker.bundles.published import PublishedBundles, Snapshot
from edge_broker.bundles.publishing import BundlePublisher, Publication, Wanted
from edge_broker.bundles.store import BundleStore
from edge_broker.connection.broker import Broker
from edge_broker.permissions import PUBLISHER
from edge_schemas.bundles.manifest import Manifest, ManifestRefused, open_manifest

SHORT_DIGEST = 12
EXIT_REFUSED, EXIT_USAGE = 1, 2
T = TypeVar("T")


class UsageError(Exception):
    """The command can't be carried out as it was typed."""


def publish(args: argparse.Namespace) -> None:
    """Publish a configured bundle, or a folder."""

    def work(out: TextIO) -> None:
        wanted, root = _of_folder(args) if args.path else _configured(args)
        source = PieceSource(root, wanted.manifest)
        by = f"airflow edge-relay bundles publish on {socket.gethostname()}"
        done = _with_broker(lambda broker: BundlePublisher(broker, by).publish(wanted, source.read))
        _print_publication(wanted, done, out, as_json=args.json)

    _run("publish", work)


def list_versions(args: argparse.Namespace) -> None:
    """List all published versions of all bundles."""

    def work(out: TextIO) -> None:
        found = _with_broker(lambda broker: PublishedBundles(broker).snapshot())
        newest = sorted(found.versions, key=lambda version: version.at, reverse=True)
        rows = [_facts(found, version) for version in sorted(newest, key=lambda version: version.name)]
        if args.json:
            print(json.dumps(rows, indent=2), file=out)
            return
        head = ("BUNDLE", "DIGEST", "", "FILES", "BYTES", "PUBLISHED", "ALSO KNOWN AS")
        _print_table([head, *map(_cells, rows)], out)

    _run("list", work)


def show(args: argparse.Namespace) -> None:
    """Show a version and its files."""

    def work(out: TextIO) -> None:
        found, version, manifest = _with_broker(lambda broker: _read(broker, args.bundle, args.version))
        files = [{"path": file.path, "size": file.size, "executable": file.executable} for file in manifest.files]
        facts = _facts(found, version)
        if args.json:
            print(json.dumps({**facts, "files": files}, indent=2), file=out)
            return
        for name, value in facts.items():
            _print(f"{name:14}{_words(value)}", out)
        print(file=out)
        for file in manifest.files:
            _print(f"{'x' if file.executable else '-'} {file.size:12,}  {file.path}", out)

    _run("show", work)


def _of_folder(args: argparse.Namespace) -> tuple[Wanted, Path]:
    if args.configured or not args.name:
        raise UsageError("--path needs --name, and no configured bundle")
    root = Path(args.path)
    manifest = TreeHasher(options.limits(conf)).manifest(root)
    return _wanted(args.name, manifest, None, options.requirements(args.requirements)), root


def _configured(args: argparse.Namespace) -> tuple[Wanted, Path]:
    """The files of a bundle after a refresh."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    if not args.configured or args.name:
        raise UsageError("name a bundle of [dag_processor] dag_bundle_config_list, or use --path and --name")
    manager: Any = DagBundlesManager  # it has no annotations in Airflow
    try:
        bundle = manager().get_bundle(args.configured)
    except ValueError as error:
        raise UsageError(f"{error} See [dag_processor] dag_bundle_config_list") from error
    requirements = options.requirements(args.requirements)
    hasher = TreeHasher(options.limits(conf))
    if isinstance(bundle, PublishedBundle):
        requirements = requirements or bundle.requirements
        hasher, bundle = bundle.hasher, bundle.inner
    bundle.initialize()
    bundle.refresh()
    manifest = hasher.manifest(bundle.path)
    return _wanted(bundle.name, manifest, version_of(bundle), requirements), bundle.path


def _wanted(name: str, manifest: Manifest, version: str | None, requirements: Mapping[str, str]) -> Wanted:
    options.check_requirements(requirements, manifest)
    return Wanted(name, manifest, version, requirements)


async def _read(broker: Broker, bundle: str, version: str | None) -> tuple[Snapshot, PublishedVersion, Manifest]:
    found = await PublishedBundles(broker).snapshot()
    entry = _find(found, bundle, version)
    frame = await BundleStore(broker).manifest(entry.digest)
    if frame is None:
        raise UsageError(f"the manifest of version {entry.digest} is missing: publish the bundle again")
    try:
        return found, entry, open_manifest(frame, entry.digest)
    except ManifestRefused as error:
        raise UsageError(f"the manifest of version {entry.digest} is refused: {error}") from error


def _find(found: Snapshot, bundle: str, version: str | None) -> PublishedVersion:
    """The version that was typed."""
    if version is None:
        digests = {entry.digest for entry in found.current if entry.name == bundle}
    else:
        digests = {entry.digest for entry in found.known if (entry.name, entry.version) == (bundle, version)}
    matching = [
        entry
        for entry in found.versions
        if entry.name == bundle and (entry.digest in digests or (version and entry.digest.startswith(version)))
    ]
    if len(matching) != 1:
        which = "current version" if version is None else f"version {version!r}"
        text = f"{len(matching)} versions match" if matching else f"there is no {which}"
        raise UsageError(f"bundle {bundle!r}: {text}; see 'airflow edge-relay bundles list'")
    return matching[0]


def _facts(found: Snapshot, version: PublishedVersion) -> dict[str, Any]:
    """A version for people and programs."""
    target = (version.name, version.digest)
    return {
        "bundle": version.name,
        "digest": version.digest,
        "current": any((entry.name, entry.digest) == target for entry in found.current),
        "known_as": [entry.version for entry in found.known if (entry.name, entry.digest) == target],
        "file_count": version.files,
        "bytes": version.size,
        "stored_bytes": version.stored_bytes,
        "published": version.at.isoformat(timespec="seconds"),
        "by": version.by,
        "requirements": version.requirements,
    }


def _words(value: Any) -> str:
    """A fact for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        value = [path if set(value) == {ALL_QUEUES} else f"{path} (queue {queue})" for queue, path in value.items()]
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        row["bundle"],
        row["digest"][:SHORT_DIGEST],
        "current" if row["current"] else "",
        f"{row['file_count']:,}",
        f"{row['bytes']:,}",
        row["published"],
        ", ".join(row["known_as"]) or "-",
    )


def _print_publication(wanted: Wanted, done: Publication, out: TextIO, *, as_json: bool) -> None:
    facts = {
        "bundle": wanted.name,
        "digest": done.digest,
        "files": len(wanted.manifest.files),
        "bytes": wanted.manifest.size,
        "is_new": done.is_new,
        "new_pieces": done.new_pieces,
        "new_bytes": done.new_bytes,
    }
    if as_json:
        print(json.dumps(facts, indent=2), file=out)
        return
    _print(f"bundle  {wanted.name}", out)
    _print(f"digest  {done.digest}", out)
    print(f"files   {facts['files']:,} with {facts['bytes']:,} bytes", file=out)
    new = f"{done.new_pieces:,} pieces, {done.new_bytes:,} bytes stored" if done.is_new else "nothing: it was published"
    print(f"new     {new}", file=out)


def _print_table(rows: Iterable[tuple[str, ...]], out: TextIO) -> None:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        _print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), out)


def _print(line: str, out: TextIO) -> None:
    """Names come from whoever may publish: none may control a terminal, or begin another line."""
    print("".join(char if char.isprintable() else "?" for char in line), file=out)


def _with_broker(work: Callable[[Broker], Awaitable[T]]) -> T:
    return with_broker(broker_settings(conf, PUBLISHER), work)


def _run(command: str, work: Callable[[TextIO], None]) -> None:
    """Do the work and print its result. Exits with 2 for wrong settings or words, with 1 for what can't be done."""
    try:
        with others_to_stderr() as out, suppress(BrokenPipeError):
            work(out)
    except (UsageError, SettingsError) as error:
        sys.exit(_report(command, error, EXIT_USAGE))
    except FAILURES as error:
        sys.exit(_report(command, error, EXIT_REFUSED))


def _report(command: str, error: Exception, status: int) -> int:
    _print(f"airflow edge-relay bundles {command}: {error}", sys.stderr)
    return status
