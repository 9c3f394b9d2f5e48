"""The plugin that Airflow loads in each of its processes. It only makes the package visible."""

from airflow.plugins_manager import AirflowPlugin


class EdgeRelayPlugin(AirflowPlugin):
    """Shows in `airflow plugins` that Edge Relay is installed."""

    name = "edge_relay"
