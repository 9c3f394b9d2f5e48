"""The headers that pass between browser and relay."""

from urllib.parse import unquote

import pytest

from edge_bridge.page.headers import MAX_NAME_BYTES, STRICT, from_relay, to_relay
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


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", "text/event-stream"])
def test_data_of_the_relay_keeps_its_type(kind: str) -> None:
    assert from_relay({"content-type": kind})["content-type"] == kind


@pytest.mark.parametrize("kind", ["text/html", "text/javascript", "image/svg+xml", "application/json5", ""])
def test_what_a_browser_could_run_becomes_text(kind: str) -> None:
    """Otherwise a relay could have its own page, or its own script, in Airflow's origin."""
    answer = from_relay({"content-type": kind})
    assert answer["content-type"] == "text/plain; charset=utf-8"
    assert answer["x-content-type-options"] == "nosniff"


def test_a_relay_can_say_little_about_its_answer() -> None:
    given = {"Content-Security-Policy": "script-src *", "set-cookie": "a=b", "location": "//evil", "etag": '"1"'}
    answer = from_relay(given)
    assert answer["content-security-policy"] == STRICT
    assert set(answer) & {"set-cookie", "location"} == set()
    assert answer["etag"] == '"1"'
