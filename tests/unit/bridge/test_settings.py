"""The `[edge_relay]` section: what is wrong is named at the start, not found out later."""

from pathlib import Path

import pytest

from edge_bridge.settings import SettingsError, broker_settings

GOOD = {"nats_urls": "nats://one:4222, nats://two:4222", "keeper_password": "secret"}


class Conf:
    """Airflow's configuration with nothing but these options."""

    def __init__(self, **options: str) -> None:
        self._options = options

    def get(self, section: str, key: str, **_: object) -> str | None:
        return self._options.get(key) if section == "edge_relay" else None


def test_servers_and_secret_are_read() -> None:
    settings = broker_settings(Conf(**GOOD), "keeper")
    assert settings.urls == ("nats://one:4222", "nats://two:4222")
    assert settings.password == "secret"
    assert "secret" not in repr(settings)


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_ca_file_that_cannot_be_used_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError, match=r"nats_ca_file.*ca\.pem"):
        broker_settings(Conf(**GOOD, nats_ca_file=str(path)), "keeper")


def test_a_missing_password_names_both_places() -> None:
    with pytest.raises(SettingsError, match=r"keeper_password.*secrets_dir"):
        broker_settings(Conf(nats_urls="nats://one"), "keeper")
