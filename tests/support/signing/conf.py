"""Airflow's configuration with nothing but some options of our section."""


class Conf:
    """See `edge_bridge.settings.Conf`."""

    def __init__(self, **options: str) -> None:
        self._options = options

    def get(self, section: str, key: str, **_: object) -> str | None:
        """An option's value."""
        return self._options.get(key) if section == "edge_relay" else None
