"""The `[edge_relay]` section: what is wrong is named at the start, not found out later."""

from pathlib import Path

import pytest
from typing_extensions import override

from edge_bridge.airflow.queues import read_queues
from edge_bridge.executor.settings import executor_settings
from edge_bridge.keeper.bundles.settings import bundle_settings
from edge_bridge.keeper.settings import keeper_settings
from edge_bridge.provider_info import OPTIONS
from edge_bridge.settings import SettingsError, broker_settings
from edge_schemas.wire.offline import OfflinePolicy, OnSilence
from support.signing.conf import Conf

GOOD = {"nats_urls": "nats://one:4222, nats://two:4222", "keeper_password": "secret"}


class _WithHeartbeats(Conf):
    """With the option of another section that a keeper needs."""

    @override
    def get(self, section: str, key: str, **_: object) -> str | None:
        return "300" if section == "scheduler" else super().get(section, key)


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


@pytest.mark.parametrize(
    ("option", "least"), [("body_memory_bytes", 400_000_000), ("worker_body_memory_bytes", 300_000_000)]
)
def test_a_keeper_has_memory_for_the_largest_call(option: str, least: int) -> None:
    """It would refuse such a call each time, and the worker would repeat it forever."""
    memory = {"body_memory_bytes": "500000000", "worker_body_memory_bytes": "500000000"}
    given = DEFAULTS | GOOD | memory | {"gate_secret": "s" * 32, "max_call_bytes": "300000000"}
    settings = keeper_settings(_WithHeartbeats(**given | {option: str(least)}))
    assert getattr(settings, option) == least
    with pytest.raises(SettingsError, match=rf"{option} is {least - 1}, must be at least {least}"):
        keeper_settings(_WithHeartbeats(**given | {option: str(least - 1)}))


DEFAULTS = {name: str(option["default"]) for name, option in OPTIONS.items()}


def test_a_queue_has_what_it_names_and_else_what_all_have() -> None:
    conf = Conf(**DEFAULTS | {"queue_timeout": "60", "queues": str(OPTIONS["queues"]["example"])})
    queues = read_queues(conf)
    plant = queues.rules("plant")
    assert plant.offline == OfflinePolicy(tolerance_s=86400, on_silence=OnSilence.CONTINUE)
    assert plant.timeout_s == 3600
    assert queues.rules("other").offline == OfflinePolicy()
    assert queues.rules("other").timeout_s == 60
    free = read_queues(Conf(**DEFAULTS | {"queue_timeout": "60", "queues": '{"plant": {"queue_timeout": 0}}'}))
    assert free.rules("plant").timeout_s is None
    assert not read_queues(Conf(**DEFAULTS)).any_times_out


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("offline_tolerance", "5", r"offline_tolerance is '5'.*greater than or equal to 10"),
        ("offline_tolerance", "soon", r"offline_tolerance is 'soon'"),
        ("on_silence", "wait", r"on_silence is 'wait'.*'stop' or 'continue'"),
        ("queue_timeout", "-1", r"queue_timeout is '-1'"),
        ("queues", '{"plant": {"queue_timeout": []}}', r"queues, queue 'plant': queue_timeout is \[\]"),
        ("queues", "plant=60", "queues is no JSON"),
        ("queues", "[1]", "queues must be an object by queue name"),
        ("queues", '{" padded": {}}', "queues must be an object by queue name"),
        ("queues", '{"plant": 60}', r"queues must be an object.*plant is 60"),
        ("queues", '{"plant": {"tolerance": 60}}', r"queues, queue 'plant': tolerance"),
        ("queues", '{"plant": {"on_silence": "wait"}}', r"queues, queue 'plant': on_silence is 'wait'"),
        ("queues", '{"plant": {"offline_tolerance": 9e9}}', r"queues, queue 'plant': offline_tolerance"),
        ("callback_queue", "a\nb", "callback_queue is"),
        ("connection_test_queue", "x" * 101, "connection_test_queue is"),
    ],
)
def test_a_wrong_rule_names_option_and_queue(option: str, value: str, says: str) -> None:
    with pytest.raises(SettingsError, match=rf"\[edge_relay\] {says}"):
        executor_settings(Conf(**DEFAULTS | {"executor_password": "secret", option: value}))


def test_the_metrics_port_is_off_a_port_or_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole scheduler's, so it is not asked of a team's configuration."""
    conf = Conf(**DEFAULTS | {"executor_password": "secret", "metrics_port": "of a team"})
    assert executor_settings(conf).metrics_port is None
    monkeypatch.setenv("AIRFLOW__EDGE_RELAY__METRICS_PORT", "9109")
    assert executor_settings(conf).metrics_port == 9109
    monkeypatch.setenv("AIRFLOW__EDGE_RELAY__METRICS_PORT", "99999")
    with pytest.raises(SettingsError, match=r"\[edge_relay\] metrics_port is '99999', must be a TCP port"):
        executor_settings(conf)


def test_a_team_has_rules_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.executors.base_executor import ExecutorConf

    monkeypatch.setenv("AIRFLOW__EDGE_RELAY__OFFLINE_TOLERANCE", "100")
    monkeypatch.setenv("AIRFLOW__RED___EDGE_RELAY__OFFLINE_TOLERANCE", "200")
    assert read_queues(ExecutorConf(None)).rules("q").offline.tolerance_s == 100
    assert read_queues(ExecutorConf("red")).rules("q").offline.tolerance_s == 200


def test_requirements_of_bundles_that_the_keeper_publishes() -> None:
    """A path for all queues, or one for each; the example of the option is such a value."""
    example = str(OPTIONS["publish_requirements"]["example"])
    assert bundle_settings(Conf(**DEFAULTS | {"publish_requirements": example})).requirements == {
        "dags-folder": {"*": "requirements.txt"},
        "team-a": {"gpu": "gpu.txt", "*": "all.txt"},
    }
    assert bundle_settings(Conf(**DEFAULTS)).requirements == {}


@pytest.mark.parametrize("value", ["requirements.txt", '["requirements.txt"]', '{"dags": 1}', '{"dags": {"gpu": ""}}'])
def test_wrong_requirements_of_bundles_are_named(value: str) -> None:
    with pytest.raises(SettingsError, match="publish_requirements"):
        bundle_settings(Conf(**DEFAULTS | {"publish_requirements": value}))
