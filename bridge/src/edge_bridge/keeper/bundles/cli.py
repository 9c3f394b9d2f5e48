"""`airflow edge-relay bundles prune` and `unpublish`."""

import argparse
import asyncio
import socket
import sys
from datetime import UTC, datetime, timedelta

from edge_bridge.keeper.bundles.pruning import read_versions
from edge_bridge.keeper.bundles.settings import LEAST_MIN_AGE_S, bundle_settings
from edge_bridge.keeper.dispatch import DatabaseUnavailable, Dispatches
from edge_bridge.settings import SettingsError, broker_settings
from edge_broker.bundles.entries import PublishedVersion
from edge_broker.bundles.lock import CONTENT, BundleLock, LockBusy, LockLost
from edge_broker.bundles.pruner import LOCK_WAIT_S, Pruned, Pruner, PruneRefused, removable_from
from edge_broker.bundles.published import PublishedBundles
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable, JetStreamError
from edge_broker.connection.settings import BrokerSettings
from edge_broker.permissions import KEEPER
from edge_schemas.why.wording import counted, span

CONNECT_S = 10.0


def prune(args: argparse.Namespace) -> None:
    """Remove old versions, or print which ones would be. Exits with 2 if a setting is wrong, with 1 after a failure."""
    from airflow.configuration import conf

    try:
        broker = broker_settings(conf, KEEPER)
        min_age = bundle_settings(conf).min_age
        if args.older_than is not None:
            min_age = _older_than(args.older_than)
    except SettingsError as error:
        sys.exit(_report(str(error), 2))
    try:
        pruned = asyncio.run(_prune(broker, min_age, dry_run=args.dry_run))
    except DatabaseUnavailable as error:
        sys.exit(_report(f"Airflow's database can't be read, so nothing is removed: {error}", 1))
    except (PruneRefused, LockBusy, LockLost, BrokerUnavailable, JetStreamError) as error:
        sys.exit(_report(str(error), 1))
    _print(pruned, min_age, dry_run=args.dry_run)


def unpublish(args: argparse.Namespace) -> None:
    """Remove the mark of a current version. Exits with 2 if a setting is wrong, with 1 after a failure."""
    from airflow.configuration import conf

    try:
        broker = broker_settings(conf, KEEPER)
    except SettingsError as error:
        sys.exit(_report(str(error), 2, "unpublish"))
    try:
        was_published = asyncio.run(_unpublish(broker, args.bundle))
    except (LockBusy, BrokerUnavailable, JetStreamError) as error:
        sys.exit(_report(str(error), 1, "unpublish"))
    if not was_published:
        sys.exit(_report(f"bundle {args.bundle!r} is not published", 1, "unpublish"))
    print(f"bundle {args.bundle} is not published any more: new jobs use the workers' own folders, if they have one")


async def _unpublish(settings: BrokerSettings, bundle: str) -> bool:
    async with Broker(settings) as broker:
        await broker.wait_connected(CONNECT_S)
        published = PublishedBundles(broker)
        lock = BundleLock(broker, CONTENT, f"bundles unpublish on {socket.gethostname()}")
        async with lock.hold(exclusive=True, wait_s=LOCK_WAIT_S):
            current = await published.current(bundle)
            if current is not None:
                await published.remove(current)
        return current is not None


def _older_than(seconds: int) -> timedelta:
    if seconds < LEAST_MIN_AGE_S:
        raise SettingsError(
            f"--older-than is {seconds}, must be {LEAST_MIN_AGE_S} at least: executors may be about to send jobs of "
            "younger versions"
        )
    return timedelta(seconds=seconds)


async def _prune(settings: BrokerSettings, min_age: timedelta, *, dry_run: bool) -> Pruned:
    async with Broker(settings) as broker:
        await broker.wait_connected(CONNECT_S)
        pruner = Pruner(broker, f"bundles prune on {socket.gethostname()}")
        in_use = await Dispatches().query(read_versions)
        now = datetime.now(UTC)
        if dry_run:
            return await pruner.preview(in_use, min_age, now)
        pruned = await pruner.prune(in_use, min_age, now)
        await pruner.sweep(pruned)
        return pruned


def _print(pruned: Pruned, min_age: timedelta, *, dry_run: bool) -> None:
    removed = "would be removed" if dry_run else "removed"
    for version in pruned.versions:
        print(f"{removed}: {_text(version)}")
    for version in pruned.waiting:
        print(f"kept for now: {_text(version)}, {_until(version, min_age)}")
    print(f"{removed}: {len(pruned.versions)} versions, {len(pruned.manifests)} manifests, {pruned.pieces} pieces")
    if pruned.waiting:
        waiting = counted(len(pruned.waiting), "version")
        print(
            f"kept for now: {waiting}; a version is removed once it was not needed for {span(min_age.total_seconds())}"
        )


def _text(version: PublishedVersion) -> str:
    return f"{version.name} {version.digest}, published {_moment(version.at)}"


def _until(version: PublishedVersion, min_age: timedelta) -> str:
    """Until when a version is kept. A trial notes nothing, so it may be the first to find the version unneeded."""
    end = removable_from(version, min_age)
    if version.unneeded_since is None or end is None:
        age = span(min_age.total_seconds())
        return f"not needed; removed {age} after the next search by a keeper, or by prune without --dry-run"
    return f"not needed since {_moment(version.unneeded_since)}, removed from {_moment(end)} on"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _report(text: str, status: int, command: str = "prune") -> int:
    print(f"airflow edge-relay bundles {command}: {text}", file=sys.stderr)
    return status
