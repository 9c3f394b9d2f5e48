"""Which runtime may run which centre's tasks."""

import pytest

from edge_schemas.life.versions import runtime_mismatch


@pytest.mark.parametrize(
    ("runtime", "centre"),
    [
        ("3.3.2", "3.3.2"),
        ("3.3.9", "3.3.0"),
        ("3.2.1", "3.3.0"),
        ("3.3.0rc1", "3.3.2"),
        ("v3.3.0", "3.10.0"),
        ("2.99.0", "3.0.0"),
        (None, "3.3.2"),
        ("3.4.0", None),
        ("", "3.3.2"),
        ("main", "3.3.2"),
        ("3.4.0", "main"),
        ("3.9999999.0", "3.3.2"),
    ],
)
def test_a_runtime_may_be_as_new_as_the_centre_and_what_is_no_version_is_let_pass(
    runtime: str | None, centre: str | None
) -> None:
    assert runtime_mismatch(runtime, centre) is None


@pytest.mark.parametrize(("runtime", "centre"), [("3.4.0", "3.3.9"), ("3.10.0", "3.9.0"), ("4.0.0", "3.3.2")])
def test_a_newer_runtime_is_refused_in_words_that_say_what_to_do(runtime: str, centre: str) -> None:
    fault = runtime_mismatch(runtime, centre) or ""
    assert runtime in fault
    assert f"{centre[:3]} or older" in fault
    assert "edge-worker runtime install" in fault
