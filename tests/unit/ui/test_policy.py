"""What a browser may do with the dashboard."""

import pytest

from edge_ui.policy import check_frame_ancestors, headers


def test_nothing_inline_and_nothing_from_other_hosts() -> None:
    policy = headers(("'self'",))["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "style-src 'self';" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "*" not in policy


@pytest.mark.parametrize(
    ("ancestors", "old_header"),
    [(("'self'",), "SAMEORIGIN"), (("'none'",), "DENY"), (("'self'", "https://airflow.example"), None)],
)
def test_who_may_show_it_in_a_frame(ancestors: tuple[str, ...], old_header: str | None) -> None:
    sent = headers(ancestors)
    assert f"frame-ancestors {' '.join(ancestors)};" in sent["Content-Security-Policy"]
    assert sent.get("X-Frame-Options") == old_header


@pytest.mark.parametrize(
    "ancestors",
    [("https://a.example; script-src *",), ("a.example",), ("*",), ("self",), ("'none'", "https://a.example")],
)
def test_what_is_no_origin_is_refused(ancestors: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="none"):
        check_frame_ancestors(ancestors)


def test_an_empty_list_means_none() -> None:
    assert check_frame_ancestors(()) == ("'none'",)
    assert check_frame_ancestors(("https://airflow.example:8080",)) == ("https://airflow.example:8080",)
