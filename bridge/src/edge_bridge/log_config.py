"""Airflow's own logging configuration with the log reader for edge tasks: name it in `[logging] logging_config_class`.

    [logging]
    logging_config_class = edge_bridge.log_config.LOGGING_CONFIG

All other options under `[logging]` keep their meaning: a remote store set by `remote_logging` and
`remote_base_log_folder` gets the logs of all other tasks as before. Airflow 3.3 refuses to start with a
`remote_base_log_folder` whose scheme it does not know, so a scheme of our own is not possible. If the option already
names a module of your own, wrap its handler: `REMOTE_TASK_LOG = EdgeRemoteLogIO(lambda: my_handler)`.
"""

from airflow.config_templates.airflow_local_settings import (
    DEFAULT_LOGGING_CONFIG as LOGGING_CONFIG,
)
from airflow.config_templates.airflow_local_settings import (
    DEFAULT_REMOTE_CONN_ID,
)

from edge_bridge.logs.remote_log import EdgeRemoteLogIO

REMOTE_TASK_LOG = EdgeRemoteLogIO()

__all__ = ["DEFAULT_REMOTE_CONN_ID", "LOGGING_CONFIG", "REMOTE_TASK_LOG"]
