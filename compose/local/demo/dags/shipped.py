"""A DAG whose task imports a helper package of its bundle.

The edge worker has no copy of these files: it fetches the version of the bundle that the run is pinned to.
"""

from airflow.sdk import dag, task


@dag(schedule=None, catchup=False, tags=["edge-relay"])
def shipped() -> None:
    """One task at the edge, which returns what the helper package says."""

    @task(executor="edge", queue="plant")
    def brew() -> str:
        """At the edge: imports the package when it runs."""
        from plant.recipe import RECIPE  # type: ignore[import-not-found]  # found in the bundle's folder only

        return str(RECIPE)

    brew()


shipped()
