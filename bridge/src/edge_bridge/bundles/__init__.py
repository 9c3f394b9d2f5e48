"""Publishes the DAG code of Airflow's bundles for the workers, and finds published versions on Airflow's machines.

May import: `output`, `settings`, `edge_broker`, `edge_schemas`.
Never here: which version a job gets, which versions are kept; executor and keeper decide that.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_bridge.bundles.published_bundle import PublishedBundle

__all__ = ["PublishedBundle"]


def __getattr__(name: str) -> Any:
    # The path that a bundle's configuration names. The keeper imports other modules of the room without Airflow.
    if name == "PublishedBundle":
        from edge_bridge.bundles.published_bundle import PublishedBundle

        return PublishedBundle
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
