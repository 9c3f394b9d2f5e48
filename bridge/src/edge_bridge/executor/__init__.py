"""Airflow's executor: publishes jobs, watches their records, reports outcomes to the scheduler, adopts and reconciles.

May import: `airflow`, `portal`, `settings`, `tracing`, `provider_info`, `edge_broker`, `edge_service`, `edge_schemas`.
Never here: the keeper, logs, calls that block the scheduler's loop.
"""

from edge_bridge.executor.relay_executor import RelayExecutor

__all__ = ["RelayExecutor"]
