"""Compares the published bundles with Airflow's, and the room for them with what they use."""

from collections.abc import Iterator
from datetime import UTC, datetime

from edge_bridge.airflow import database
from edge_bridge.airflow.bundle_versions import BundleRow
from edge_bridge.doctor.database_checks import DATABASE
from edge_bridge.doctor.settings_checks import VALUES
from edge_bridge.keeper.bundles.publisher import read_rows
from edge_bridge.keeper.bundles.settings import BundleSettings, bundle_settings
from edge_bridge.keeper.bundles.sources import BundleSources, error_text
from edge_bridge.settings import SECTION, Conf
from edge_broker.bundles.mirror import BundleMirror
from edge_broker.doctor import check_ids as nats
from edge_broker.doctor.nats_doctor import NatsDoctor
from edge_broker.permissions import KEEPER
from edge_broker.subjects import BUNDLES, BUNDLES_BUCKET
from edge_service.findings import Check, Finding, ok, warning

PUBLISHED, FOLDERS, ROOM = "bundles.published", "bundles.folders", "bundles.room"
FULL = 0.8
_MANY_S = 30.0


class BundleDoctor:
    """Checks what is published, as the keeper sees it."""

    def __init__(self, conf: Conf, broker: NatsDoctor) -> None:
        self._conf = conf
        self._broker = broker
        self._mirror = BundleMirror()
        self._rows: dict[str, BundleRow] = {}

    def checks(self) -> Iterator[Check]:
        """The checks of the bundles; they need the keeper's password."""
        yield Check(ROOM, self._room, (nats.STREAMS, nats.rights(KEEPER)), _MANY_S)
        yield Check(PUBLISHED, self._published, (VALUES, nats.STREAMS, nats.rights(KEEPER), DATABASE), _MANY_S)
        yield Check(FOLDERS, self._folders, (PUBLISHED,), _MANY_S)

    async def _room(self) -> Finding:
        info = await self._broker.stream(BUNDLES)
        used, most = info["state"]["bytes"], info["config"].get("max_bytes") or -1
        if most > 0 and used > FULL * most:
            advice = (
                "When it is full, no new version is published. Give it more room with 'edge-relay streams apply "
                "--bundles-max', or remove old versions with 'airflow edge-relay bundles prune'."
            )
            return warning(ROOM, f"the store of bundles uses {used:,} of {most:,} bytes", advice)
        limit = f"{most:,}" if most > 0 else "unlimited"
        return ok(ROOM, f"the store of bundles uses {used:,} of {limit} bytes")

    async def _published(self) -> list[Finding]:
        for key, value in (await self._broker.values(BUNDLES_BUCKET)).items():
            self._mirror.apply(key, value)
        self._rows = await database.run_query(read_rows)
        settings = bundle_settings(self._conf)
        about = (self._about(row, settings) for row in self._rows.values())
        findings = [finding for finding in about if finding is not None]
        names = [name for name in self._rows if self._mirror.current(name) is not None]
        return findings or [ok(PUBLISHED, f"{len(names)} bundles are published, each as Airflow has seen it last")]

    def _about(self, row: BundleRow, settings: BundleSettings) -> Finding | None:
        advice = (
            f"Read the log of the keeper that publishes bundles ([{SECTION}] publish_bundles), or of the dag-processor "
            "if the bundle's class is PublishedBundle: it names the reason."
        )
        if self._mirror.current(row.name) is None:
            if settings.publishes(row.name):
                return warning(
                    PUBLISHED, f"bundle {row.name!r} is not published, although publish_bundles says so", advice
                )
            return None
        if row.version is not None and self._mirror.find(row.name, row.version) is None:
            detail = f"version {row.version!r} of bundle {row.name!r}, which Airflow has seen last, is not published"
            return warning(PUBLISHED, f"{detail}: its tasks wait for it and fail then", advice)
        return None

    async def _folders(self) -> list[Finding]:
        """Only those that a keeper publishes: the dag-processor publishes at each refresh."""
        settings = bundle_settings(self._conf)
        if not settings.publish:
            return [ok(FOLDERS, "no folder is published by a keeper")]
        sources = BundleSources(settings.limits)
        try:
            configured = await sources.configured()
        except Exception as error:  # noqa: BLE001  # reported; the code of a bundle's class may raise anything
            advice = "Correct [dag_processor] dag_bundle_config_list, and install what the bundles' classes need."
            return [warning(FOLDERS, f"the configured bundles can't be opened: {error_text(error)}", advice)]
        names = [name for name, has_versions in configured.items() if not has_versions and settings.publishes(name)]
        findings = [finding for name in names if (finding := await self._folder(name, sources)) is not None]
        return findings or [ok(FOLDERS, "the folders that a keeper publishes are as they are published")]

    async def _folder(self, name: str, sources: BundleSources) -> Finding | None:
        row, current = self._rows.get(name), self._mirror.current(name)
        if row is None or current is None:
            return None
        try:
            tree = await sources.now(name, row.refreshed_at)
        except Exception as error:  # noqa: BLE001  # reported, as above
            advice = "Fine if the keeper that publishes is on another machine: run the doctor there."
            return warning(FOLDERS, f"bundle {name!r} can't be read on this machine: {error_text(error)}", advice)
        if tree.manifest.digest == current.digest:
            return None
        age_s = (datetime.now(UTC) - current.at).total_seconds()
        advice = (
            "Normal for some seconds after a change. Otherwise read the log of the keeper that publishes; it may see "
            "another folder than this machine does."
        )
        detail = f"the files of bundle {name!r} in {tree.root} differ from what was published {age_s:.0f} s ago"
        return warning(FOLDERS, detail, advice)
