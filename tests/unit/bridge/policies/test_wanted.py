"""A policy from a file and from options."""

from pathlib import Path

import pytest

from edge_bridge.policies.wanted import WrongPolicy, changed, read_file
from edge_schemas.policies.policy import AccessKind, PolicyFile, PolicyMode


def test_options_change_what_is_there() -> None:
    before = PolicyFile(mode=PolicyMode.LOG, allow={AccessKind.CONNECTION: ("a", "b")})
    after = changed(before, mode="enforce", allow=["variable=x*", "connection=a"], drop=["connection=b"])
    assert after.mode is PolicyMode.ENFORCE
    assert after.allow == {AccessKind.CONNECTION: ("a",), AccessKind.VARIABLE: ("x*",)}
    assert changed(after, mode=None, drop=["variable=x*"]).allow == {AccessKind.CONNECTION: ("a",)}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"allow": ["connection"]}, "must be KIND=PATTERN"),
        ({"allow": ["secret=a"]}, "'secret' is no kind: use one of connection"),
        ({"allow": ["connection=a\nb"]}, "one line"),
        ({"drop": ["connection=z"]}, "has no such pattern"),
        ({"allow": [f"variable={number}" for number in range(201)]}, "at most 200"),
    ],
)
def test_a_wrong_option_is_explained(options: dict[str, list[str]], text: str) -> None:
    with pytest.raises(WrongPolicy, match=text):
        changed(PolicyFile(), mode=None, **options)


def test_a_file_is_toml_or_json(tmp_path: Path) -> None:
    toml, json = tmp_path / "p.toml", tmp_path / "p.json"
    toml.write_text('mode = "enforce"\n[allow]\nconnection = ["a"]\n')
    json.write_text('{"mode": "enforce", "allow": {"connection": ["a"]}}')
    assert read_file(str(toml)) == read_file(str(json))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("mode = ", "is no TOML"),
        ('mode = "strict"', "mode: Input should be 'off', 'log' or 'enforce'"),
        ('allow = ["a"]', "allow: .*keys are mode"),
        ("[allow]\nconnections = ['a']", "allow.connections: Input should be 'connection'"),
        ("connection = ['a']", "connection: Extra inputs"),
        ("[allow]\nconnection = 'a'", "allow.connection: Input should be a valid tuple"),
    ],
)
def test_a_wrong_file_is_explained(tmp_path: Path, content: str, text: str) -> None:
    file = tmp_path / "p.toml"
    file.write_text(content)
    with pytest.raises(WrongPolicy, match=text):
        read_file(str(file))


def test_a_file_that_is_missing_or_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongPolicy, match="can't be read"):
        read_file(str(tmp_path / "absent.toml"))
    large = tmp_path / "large.toml"
    large.write_text("#" * (1 << 20) + "\n")
    with pytest.raises(WrongPolicy, match="more than"):
        read_file(str(large))
