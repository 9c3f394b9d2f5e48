"""Publishes the DAG code of Airflow's bundles for the workers, and finds published versions on Airflow's machines.

May import: `settings`, `edge_broker`, `edge_schemas`.
Never here: which version a job gets, which versions are kept; executor and keeper decide that.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_bridge.bundles.published_bundle import PublishedBundle
else:

    def __getattr__(name: str) -> object:
        """Load `PublishedBundle` on first use: the import of another module of this room must not load Airflow."""
        if name == "PublishedBundle":
            from edge_bridge.bundles.published_bundle import PublishedBundle

            return PublishedBundle
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["PublishedBundle"]
