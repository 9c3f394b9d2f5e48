"""The headers that pass between browser and relay."""

from urllib.parse import unquote

import pytest

from edge_bridge.page.headers import MAX_NAME_BYTES, framed_by_airflow, from_relay, is_relative, to_relay
from edge_schemas.admin.access import Role


def test_a_name_of_any_letters_passes_percent_encoded() -> None:
    sent = to_relay({}, user="Ärger, Jo\r\nX: y", role=Role.OPERATOR)
    assert sent["Edge-Acting-For"].isascii()
    assert unquote(sent["Edge-Acting-For"]) == "Ärger, Jo\r\nX: y"
    assert sent["Edge-Acting-As"] == "operator"


def test_a_long_name_is_cut_between_letters() -> None:
    name = unquote(to_relay({}, user="ä" * MAX_NAME_BYTES, role=Role.VIEWER)["Edge-Acting-For"])
    assert name == "ä" * (MAX_NAME_BYTES // 2)


def test_only_known_headers_pass_and_none_that_is_long() -> None:
    given = {"accept": "a", "content-type": "b", "cookie": "c", "edge-acting-as": "admin", "if-none-match": "x" * 1001}
    sent = to_relay(given, user="u", role=Role.VIEWER)
    assert set(sent) == {"accept", "content-type", "Accept-Encoding", "Edge-Acting-For", "Edge-Acting-As"}


@pytest.mark.parametrize(
    ("policy", "framed"),
    [
        ("default-src 'self'; frame-ancestors 'none'", "default-src 'self'; frame-ancestors 'self'"),
        ("Frame-Ancestors *; script-src 'self';", "script-src 'self'; frame-ancestors 'self'"),
        ("", "frame-ancestors 'self'"),
    ],
)
def test_a_policy_allows_frames_of_this_origin_only(policy: str, framed: str) -> None:
    assert framed_by_airflow(policy) == framed


def test_without_a_policy_of_the_relay_nothing_is_allowed() -> None:
    assert from_relay({})["content-security-policy"].startswith("default-src 'none'")


def test_redirects_stay_in_the_folder() -> None:
    assert is_relative("./#/workers")
    assert is_relative("../#/workers/a")
    for other in ("/auth", "//evil", "https://evil", "../x", "./../../x", ".\\", "javascript:x", "", "..//evil"):
        assert not is_relative(other)
