"""Which versions of DAG bundles Airflow knows and may ask for. Read only, in the caller's session."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

UNFINISHED = ("queued", "running")


@dataclass(frozen=True, slots=True)
class BundleRow:
    """A bundle as the dag-processor has seen it last.

    Attributes:
        version: None for a bundle without versions.
        refreshed_at: When the dag-processor last refreshed it; None if it has not yet.
        needed: Versions that unfinished runs, and new runs of its DAGs, have or get.
    """

    name: str
    version: str | None
    refreshed_at: datetime | None
    needed: frozenset[str]


def read_bundles(session: "Session") -> dict[str, BundleRow]:
    """The active bundles by name."""
    from airflow.models.dagbundle import DagBundleModel
    from sqlalchemy import select

    needed = _needed(session)
    columns = (DagBundleModel.name, DagBundleModel.version, DagBundleModel.last_refreshed)
    rows = session.execute(select(*columns).where(DagBundleModel.active.is_(True)))
    return {
        name: BundleRow(name, version, refreshed_at, frozenset(needed[name])) for name, version, refreshed_at in rows
    }


def versions_in_use(session: "Session") -> set[str]:
    """Every version that Airflow may ask for, of all bundles.

    Also those of runs that have ended, which can be cleared, and what "run with the latest version" would choose. The
    database removes the duplicates: there may be millions of runs.
    """
    from airflow.models.dag import DagModel
    from airflow.models.dag_version import DagVersion
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.dagrun import DagRun
    from sqlalchemy import func, select, tuple_

    latest = select(DagVersion.dag_id, func.max(DagVersion.version_number)).group_by(DagVersion.dag_id)
    queries = (
        select(DagRun.bundle_version).distinct(),
        select(DagModel.bundle_version).distinct(),
        select(DagBundleModel.version),
        select(DagVersion.bundle_version)
        .where(tuple_(DagVersion.dag_id, DagVersion.version_number).in_(latest))
        .distinct(),
    )
    return {version for query in queries for version in session.scalars(query) if version is not None}


def _needed(session: "Session") -> dict[str, set[str]]:
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from sqlalchemy import select

    of_runs = (
        select(DagModel.bundle_name, DagRun.bundle_version)
        .join(DagModel, DagModel.dag_id == DagRun.dag_id)
        .where(DagRun.state.in_(UNFINISHED), DagRun.bundle_version.is_not(None))
        .distinct()
    )
    of_dags = (
        select(DagModel.bundle_name, DagModel.bundle_version)
        .where(DagModel.bundle_version.is_not(None), DagModel.is_stale.is_(False))
        .distinct()
    )
    found: dict[str, set[str]] = defaultdict(set)
    for query in (of_runs, of_dags):
        for name, version in session.execute(query):
            if version is not None:
                found[name].add(version)
    return found
