"""Airflow's executor: publishes jobs, watches their records, reports outcomes to the scheduler, adopts and reconciles.

May import: `airflow`, `signing`, `portal`, `settings`, `tracing`, `provider_info`, `edge_broker`, `edge_service`,
`edge_schemas`, `edge_upkeep`, Airflow and prometheus_client.
Never here: the keeper, logs, calls that block the scheduler's loop.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_bridge.executor.relay_executor import RelayExecutor
else:

    def __getattr__(name: str) -> object:
        """Load `RelayExecutor` on first use: the import of `executor.settings` alone must not load Airflow."""
        if name == "RelayExecutor":
            from edge_bridge.executor.relay_executor import RelayExecutor

            return RelayExecutor
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["RelayExecutor"]
