"""Settings: where they come from, and what is wrong with them."""

from pathlib import Path

import pytest

from edge_worker.cli import parser
from edge_worker.environment import proxy_environment, task_environment
from edge_worker.settings import PREFIX, Settings, SettingsError
from edge_worker.settings_sources import load_settings


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "worker.toml"
    file.write_text('slots = 1\ngrace_s = 1\npoll_hold_s = 10\n[bundles]\ndags = "/srv/dags"\n')
    settings = load_settings({"slots": "3"}, {"EDGE_WORKER_SLOTS": "2", "EDGE_WORKER_GRACE_S": "2"}, config=file)
    assert (settings.slots, settings.grace_s, settings.poll_hold_s) == (3, 2, 10)
    assert settings.bundles == {"dags": Path("/srv/dags")}


def test_maps_and_lists_in_the_environment() -> None:
    settings = load_settings({}, {"EDGE_WORKER_BUNDLES": '{"a": "/x"}', "EDGE_WORKER_TASK_ENV": "A, B"})
    assert (settings.bundles, settings.task_env) == ({"a": Path("/x")}, ("A", "B"))


def test_an_empty_variable_is_not_set() -> None:
    assert load_settings({}, {"EDGE_WORKER_SLOTS": "", "EDGE_WORKER_RELAY_URL": ""}).relay_url is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("relay_url", "http://relay.example.com"),
        ("relay_url", "relay.example.com"),
        ("relay_url", "https://user:pw@relay.example.com"),
        ("slots", "0"),
        ("slots", "many"),
        ("poll_hold_s", "60"),
        ("bundles", "not json"),
        ("task_env", "EDGE_WORKER_ENROLL_TOKEN"),
    ],
)
def test_a_wrong_value_is_named_and_not_shown(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as error:
        load_settings({}, {PREFIX + name.upper(): value})
    assert PREFIX + name.upper() in str(error.value)
    assert "pw@" not in str(error.value)


@pytest.mark.parametrize(
    "url", ["https://r.example.com", "https://r.example.com:8443/", "http://127.0.0.1:1", "http://[::1]:1"]
)
def test_good_addresses(url: str) -> None:
    assert load_settings({"relay_url": url}, {}).relay_url == url.rstrip("/")


def test_unknown_names_in_the_file_are_an_error(tmp_path: Path) -> None:
    file = tmp_path / "worker.toml"
    file.write_text("slotz = 1\n")
    with pytest.raises(SettingsError, match="slotz"):
        load_settings({}, {}, config=file)


def test_a_token_in_the_file_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "worker.toml"
    file.write_text('enroll_token = "ere_x"\n')
    with pytest.raises(SettingsError, match="enroll_token_file"):
        load_settings({}, {}, config=file)


def test_every_setting_has_a_description_and_a_flag_unless_it_is_a_secret() -> None:
    parsed = vars(parser().parse_args(["run"]))
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert (name in parsed) is (name != "enroll_token"), name


def test_tasks_get_little_of_the_environment_and_no_credential() -> None:
    environ = {
        "PATH": "/bin",
        "LC_ALL": "C",
        "MINE": "1",
        "OTHER": "2",
        "HTTPS_PROXY": "http://user:pw@proxy:3128",
        "EDGE_WORKER_ENROLL_TOKEN": "ere_x",
    }
    settings = Settings(task_env=("MINE", "HTTPS_PROXY"))
    assert task_environment(settings, environ) == {
        "PATH": "/bin", "LC_ALL": "C", "MINE": "1", "HTTPS_PROXY": "http://proxy:3128",
    }  # fmt: skip


def test_http_proxy_in_capitals_is_left_alone() -> None:
    assert proxy_environment({"HTTP_PROXY": "http://a:1", "http_proxy": "http://b:1"}) == {"http_proxy": "http://b:1"}


def test_only_the_value_that_is_wrong_is_named() -> None:
    """Not also what has a default that depends on it."""
    with pytest.raises(SettingsError) as error:
        load_settings({"relay_url": "RELAY_URL"}, {})
    assert str(error.value).count("\n") == 0
    assert "relay_url" in str(error.value)
