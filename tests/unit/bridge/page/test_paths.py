"""Which paths of the page lead to the relay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_bridge.page.paths import API, MAX_PATH_CHARS, MAX_QUERY_BYTES, is_safe_query, relay_path


@pytest.mark.parametrize(
    ("rest", "path"),
    [
        ("workers", "/v1/admin/workers"),
        ("workers/plant-4-x", "/v1/admin/workers/plant-4-x"),
        ("a b%2e", "/v1/admin/a%20b%252e"),
        ("ä?x#y", "/v1/admin/%C3%A4%3Fx%23y"),
    ],
)
def test_a_path_is_encoded_again(rest: str, path: str) -> None:
    assert relay_path(rest) == path


@pytest.mark.parametrize(
    "rest", ["", "..", "a/../b", "a//b", "/a", "a/", ".", "a\\b", "a\x00", "a\nb", "sign-in", "sign-in/oidc"]
)
def test_other_paths_lead_nowhere(rest: str) -> None:
    assert relay_path(rest) is None


def test_a_long_path_leads_nowhere() -> None:
    assert relay_path("a" * MAX_PATH_CHARS) is not None
    assert relay_path("a" * (MAX_PATH_CHARS + 1)) is None


@given(st.text(max_size=40))
def test_no_path_leaves_the_api(rest: str) -> None:
    path = relay_path(rest)
    if path is not None:
        assert path.startswith(f"{API}/")
        assert path.isascii()
        assert not {"..", "."} & set(path.split("/"))
        assert not set(path) & set("?#\\ \r\n")


def test_a_query_passes_as_it_is_or_not_at_all() -> None:
    assert is_safe_query(b"")
    assert is_safe_query(b"a=%2F&b=c+d")
    assert is_safe_query(b"x" * MAX_QUERY_BYTES)
    for bad in (b"x" * (MAX_QUERY_BYTES + 1), b"a b", b"a#b", b"\xc3\xa4", b"a\r\nHost: x"):
        assert not is_safe_query(bad)
