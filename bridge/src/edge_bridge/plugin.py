"""The plugin that Airflow loads in each of its processes. It imports nothing until a part of it is asked for.

Only the api-server asks for applications and views: in all other processes the plugin just makes the package visible.
"""

from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from airflow.plugins_manager import AirflowPlugin


class EdgeRelayPlugin(AirflowPlugin):
    """Shows in `airflow plugins` that Edge Relay is installed, and adds its page to Airflow's UI."""

    name = "edge_relay"

    @cached_property
    def fastapi_apps(self) -> list[Any]:  # type: ignore[override]  # a plain attribute would be made in every process
        """The page's application."""
        from airflow.configuration import conf

        from edge_bridge.page.app import build_page
        from edge_bridge.page.settings import page_settings
        from edge_bridge.page.views import URL_PREFIX

        return [{"app": build_page(lambda: page_settings(conf)), "url_prefix": URL_PREFIX, "name": "Edge Relay"}]

    @cached_property
    def external_views(self) -> list[Any]:  # type: ignore[override]  # as above
        """Where Airflow's UI shows the page."""
        from airflow.configuration import conf

        from edge_bridge.page.views import external_views

        base_url = conf.get("api", "base_url", fallback="") or ""
        return list(external_views(urlsplit(base_url).path.rstrip("/")))
