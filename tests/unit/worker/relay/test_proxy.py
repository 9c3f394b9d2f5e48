"""Which proxy leads to the relay."""

import base64
from pathlib import Path

import pytest

from edge_worker.relay.proxy import bypasses, resolve_proxy
from edge_worker.settings import Settings, SettingsError

RELAY = "https://relay.example.com"


@pytest.mark.parametrize(
    ("environment", "url", "source"),
    [
        ({}, None, None),
        ({"HTTPS_PROXY": "http://p:3128"}, "http://p:3128", "HTTPS_PROXY"),
        ({"https_proxy": "http://low:1", "HTTPS_PROXY": "http://up:2"}, "http://low:1", "https_proxy"),
        ({"https_proxy": "", "HTTPS_PROXY": "http://up:2"}, None, None),
        ({"ALL_PROXY": "http://all:1"}, "http://all:1", "ALL_PROXY"),
        ({"ALL_PROXY": "http://all:1", "HTTPS_PROXY": "http://p:2"}, "http://p:2", "HTTPS_PROXY"),
        ({"http_proxy": "http://plain:1"}, None, None),
        ({"HTTPS_PROXY": "p:3128"}, "http://p:3128", "HTTPS_PROXY"),
        ({"HTTPS_PROXY": "p"}, "http://p:80", "HTTPS_PROXY"),
        ({"HTTPS_PROXY": "https://p"}, "https://p:443", "HTTPS_PROXY"),
        ({"HTTPS_PROXY": "http://[::1]:3128/"}, "http://[::1]:3128", "HTTPS_PROXY"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "example.com"}, None, None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*", "no_proxy": "other.org"}, "http://p:1", "HTTPS_PROXY"),
    ],
)
def test_the_environment_names_it(environment: dict[str, str], url: str | None, source: str | None) -> None:
    proxy = resolve_proxy(RELAY, Settings(), environment)
    assert (proxy and proxy.url, proxy and proxy.source) == (url, source)


def test_settings_win_and_heed_only_their_own_exceptions() -> None:
    environment = {"HTTPS_PROXY": "http://env:1", "NO_PROXY": "*"}
    proxy = resolve_proxy(RELAY, Settings(proxy_url="http://set:2"), environment)
    assert proxy is not None
    assert (proxy.url, proxy.source) == ("http://set:2", "proxy_url")
    assert resolve_proxy(RELAY, Settings(proxy_url="http://set:2", no_proxy=".example.com"), environment) is None


def test_an_empty_no_proxy_setting_takes_the_inherited_one_away() -> None:
    environment = {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}
    assert resolve_proxy(RELAY, Settings(no_proxy=""), environment) is not None


def test_credentials_leave_the_url_and_become_a_header() -> None:
    proxy = resolve_proxy(RELAY, Settings(), {"HTTPS_PROXY": "http://us%40er:p%3Aw%2F@p:1"})
    assert proxy is not None
    assert proxy.url == "http://p:1"
    assert proxy.headers == {"Proxy-Authorization": "Basic " + base64.b64encode(b"us@er:p:w/").decode()}


def test_explicit_credentials_win(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("set\n")
    settings = Settings(proxy_user="me", proxy_password_file=password)
    proxy = resolve_proxy(RELAY, settings, {"HTTPS_PROXY": "http://you:env@p:1"})
    assert proxy is not None
    assert proxy.authorization == "Basic " + base64.b64encode(b"me:set").decode()


@pytest.mark.parametrize("named", ["socks5://p:1080", "http://", "ftp://p:1", "http://p:port"])
def test_what_cannot_be_used_is_an_error_and_never_a_direct_connection(named: str) -> None:
    with pytest.raises(SettingsError, match="HTTPS_PROXY"):
        resolve_proxy(RELAY, Settings(), {"HTTPS_PROXY": named})


def test_an_unreadable_password_file_is_an_error(tmp_path: Path) -> None:
    settings = Settings(proxy_url="http://p:1", proxy_user="u", proxy_password_file=tmp_path / "none")
    with pytest.raises(SettingsError, match="proxy_password_file"):
        resolve_proxy(RELAY, settings, {})


@pytest.mark.parametrize(
    ("host", "exceptions", "expected"),
    [
        ("relay.example.com", "relay.example.com", True),
        ("relay.example.com", "RELAY.Example.COM", True),
        ("relay.example.com", "example.com", True),
        ("relay.example.com", ".example.com", True),
        ("relay.example.com", "*.example.com", True),
        ("example.com", ".example.com", True),
        ("badexample.com", "example.com", False),
        ("relay.example.com", "a.org, b.org relay.example.com", True),
        ("relay.example.com", "relay.example.com:443", True),
        ("relay.example.com", "relay.example.com:8443", False),
        ("relay.example.com:8443", "relay.example.com:8443", True),
        ("relay.example.com", "*", True),
        ("relay.example.com", "", False),
        ("relay.example.com", " , ", False),
        ("relay.example.com.", "example.com", True),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3:443", True),
        ("10.1.2.3", "11.0.0.0/8", False),
        ("10.1.2.3", "2.3", False),
        ("[fd00::1]", "fd00::/8", True),
        ("[fd00::1]", "[fd00::1]:443", True),
        ("[fd00::1]", "[fd00::1]:8443", False),
        ("relay.example.com", "10.0.0.0/8", False),
        ("relay.example.com", "relay.example.com:²", False),
        ("relay.example.com", "relay.example.com:٤٤٣", False),
        pytest.param("relay.example.com", "relay.example.com:" + "4" * 5000, False, id="far too long a port"),
        ("[fd00::1]", "[fd00::1]:٤٤٣", False),
    ],
)
def test_no_proxy(host: str, exceptions: str, *, expected: bool) -> None:
    assert bypasses(f"https://{host}/v1/poll", exceptions) is expected
