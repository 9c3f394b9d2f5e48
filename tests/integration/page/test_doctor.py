"""`airflow edge-relay doctor` names what keeps the page from working."""

import pytest

from edge_bridge.doctor.page_checks import PageDoctor
from edge_service.findings import Finding, examine
from support.airflow.page_airflow import Options
from support.operators.recording_relay import TOKEN, FakeOperators


async def _found(**options: str) -> dict[str, Finding]:
    return {one.check: one async for one in examine(list(PageDoctor(Options(**options)).checks()))}


def _statuses(found: dict[str, Finding]) -> dict[str, str]:
    return {check.removeprefix("page."): str(one.status) for check, one in found.items()}


async def test_the_page_is_optional() -> None:
    assert _statuses(await _found()) == {"settings": "ok"}


async def test_a_page_that_works(relay: FakeOperators) -> None:
    found = await _found(operators_urls=relay.url, operators_token=TOKEN)
    assert _statuses(found) == dict.fromkeys(("settings", "has_token", "relay", "rights"), "ok")


@pytest.mark.parametrize(
    ("options", "statuses", "words"),
    [
        (
            {"operators_urls": "relay:8444", "operators_token": TOKEN},
            {"settings": "failed", "has_token": "not_tried", "relay": "not_tried", "rights": "not_tried"},
            "must hold URLs",
        ),
        (
            {"operators_urls": "{url}"},
            {"settings": "ok", "has_token": "warning", "relay": "ok", "rights": "not_tried"},
            "operators.token",
        ),
        (
            {"operators_urls": "http://127.0.0.1:1", "operators_token": TOKEN},
            {"settings": "ok", "has_token": "ok", "relay": "failed", "rights": "not_tried"},
            "no relay answers the page: http://127.0.0.1:1",
        ),
        (
            {"operators_urls": "http://127.0.0.1:1,{url}", "operators_token": TOKEN},
            {"settings": "ok", "has_token": "ok", "relay": "warning", "rights": "ok"},
            "not every relay answers",
        ),
        (
            {"operators_urls": "{url}", "operators_token": "era_old"},
            {"settings": "ok", "has_token": "ok", "relay": "ok", "rights": "failed"},
            "edge-relay access-token create --name airflow --for-airflow",
        ),
    ],
    ids=["no URL", "no token", "no relay", "one relay of two", "an old token"],
)
async def test_what_is_wrong_is_named(
    relay: FakeOperators, options: dict[str, str], statuses: dict[str, str], words: str
) -> None:
    found = await _found(**{name: value.format(url=relay.url) for name, value in options.items()})
    assert _statuses(found) == statuses
    told = " ".join(f"{one.detail} {one.advice}" for one in found.values())
    assert words in told
    assert "era_" not in told


async def test_a_token_that_was_not_made_for_airflow(relay: FakeOperators, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "by", "token")
    found = await _found(operators_urls=relay.url, operators_token=TOKEN)
    assert _statuses(found)["rights"] == "failed"
    assert "was not made for Airflow" in found["page.rights"].advice
