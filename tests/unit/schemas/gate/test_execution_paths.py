"""How a path is decoded, carried and encoded."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_schemas.gate.execution_paths import carry, decode_path, encode_path, path_bytes, split_path
from edge_schemas.gate.limits import CallLimits
from edge_schemas.wire.errors import EdgeError, ErrorCode

SEGMENTS = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/")), min_size=1).map(tuple)
RUN = "manual__2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("raw", "segments"),
    [
        ("variables/a%2Fb%20c", ("variables", "a", "b c")),
        ("variables/a[1]^|", ("variables", "a[1]^|")),
        (f"xcoms/d/{RUN}/t/return_value", ("xcoms", "d", RUN, "t", "return_value")),
        ("variables//a/", ("variables", "", "a", "")),
        ("variables/100%", ("variables", "100%")),
        ("variables/%252F%zz", ("variables", "%2F%zz")),
        ("variables/%2e%2e/%5c", ("variables", "..", "\\")),
        ("variables/%ff%C2%85%00", ("variables", "\ufffd\x85\x00")),
        ("", ("",)),
    ],
)
def test_a_path_is_decoded_once_as_airflows_server_does(raw: str, segments: tuple[str, ...]) -> None:
    assert decode_path(raw) == split_path(raw) == segments


@pytest.mark.parametrize("raw", ["a?b", "a#b", "a b", "ä", "a\x7f", "a\n", "a\x00"])
def test_no_client_sends_such_a_path(raw: str) -> None:
    with pytest.raises(EdgeError) as refusal:
        split_path(raw)
    assert refusal.value.code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("carried", ["~a%41", "~/w", "~_w", "~YQ=", "~A", "~7aCA"])
def test_only_utf_8_in_base64url_is_decoded(carried: str) -> None:
    """The last one is a lone surrogate."""
    with pytest.raises(EdgeError) as refusal:
        split_path(carried)
    assert refusal.value.code is ErrorCode.INVALID_REQUEST


@given(SEGMENTS)
def test_nothing_on_the_way_changes_a_path(segments: tuple[str, ...]) -> None:
    assert split_path(carry(segments)) == segments
    assert decode_path(encode_path(segments)) == segments


@given(SEGMENTS)
def test_a_proxy_has_nothing_to_rewrite(segments: tuple[str, ...]) -> None:
    """Between worker and gate; in front of the api-server it sees no empty and no dot segment."""
    carried = carry(segments)
    assert re.fullmatch(r"[A-Za-z0-9_.~:+@=,/-]+", carried)
    assert not {"", ".", ".."} & set(carried.split("/"))
    encoded = encode_path(segments)
    assert len(segments) == 1 or not {"", ".", ".."} & set(encoded.split("/"))


def test_plain_paths_can_be_read_in_logs() -> None:
    for path in ("variables/x", f"xcoms/d/{RUN}/t/return_value", "store/ti/1/a-b_c.d~e"):
        assert carry(decode_path(path)) == encode_path(decode_path(path)).replace("%2B", "+") == path
    assert carry(("~a",)) == "~fmE"


@pytest.mark.parametrize("text", ["a" * 100, "/" * 100, "鍵" * 100, "%" * 100])
def test_a_path_counts_no_more_than_the_task_sent(text: str) -> None:
    segments = tuple(text.split("/"))
    assert path_bytes(segments, "a=b") <= len(encode_path(segments)) + len("?a=b")
    assert len(carry(segments)) < CallLimits(max_path_bytes=path_bytes(segments, "")).max_line_bytes


def test_what_is_too_long_is_refused_with_the_setting() -> None:
    limits = CallLimits(max_path_bytes=10, path_setting="SOME_SETTING")
    limits.check_path(("12345",), "12345")
    with pytest.raises(EdgeError, match="11 bytes, more than SOME_SETTING = 10") as refusal:
        limits.check_path(("12345", ""), "12345")
    assert refusal.value.problem().status == 414
