"""Publishes the DAG code of Airflow's bundles for the workers, and finds published versions on Airflow's machines.

May import: `settings`, `edge_broker`, `edge_schemas`.
Never here: which version a job gets, which versions are kept; executor and keeper decide that.
"""

from edge_bridge.bundles.published_bundle import PublishedBundle

__all__ = ["PublishedBundle"]
