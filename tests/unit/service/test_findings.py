"""How doctors do their checks and tell what they found."""

import asyncio
import json

from edge_service.findings import (
    Check,
    Finding,
    Status,
    as_json,
    as_text,
    examine,
    exit_status,
    failed,
    known,
    ok,
    warning,
)


async def _all(*checks: Check) -> list[Finding]:
    return [finding async for finding in examine(checks)]


async def test_what_needs_something_that_failed_is_not_tried() -> None:
    """The cause is the first failure, however long the chain; what does not need it goes on."""
    findings = await _all(
        known(ok("a.one", "fine")),
        Check("a.two", known(failed("a.two", "broken", "mend")).run, ("a.one",)),
        Check("a.three", known(ok("a.three", "never")).run, ("a.two",)),
        Check("b.four", known(ok("b.four", "never")).run, ("a.one", "a.three")),
        Check("c.five", known(warning("c.five", "odd", "look")).run, ("a.one",)),
    )
    assert [one.status.value for one in findings] == ["ok", "failed", "not_tried", "not_tried", "warning"]
    assert findings[3].detail == "b.four: because of a.two"


async def test_a_check_that_hangs_is_ended() -> None:
    async def hang() -> Finding:
        await asyncio.Event().wait()
        raise AssertionError

    (finding,) = await _all(Check("a.one", hang, limit_s=0.01))
    assert finding.status is Status.FAILED
    assert "0.01 s" in finding.detail


async def test_a_check_that_breaks_does_not_end_the_others() -> None:
    async def fall() -> Finding:
        raise KeyError("surprise")

    findings = await _all(Check("a.one", fall), known(ok("b.two", "fine")))
    assert "surprise" in findings[0].detail
    assert findings[1].status is Status.OK


def test_lines_hold_nothing_that_steers_a_terminal() -> None:
    told = as_text(failed("relay.ready", "it said \x1b[31mno\nok  relay", "mend\r it"))
    assert told == "FAILED     relay         it said  [31mno ok  relay\n           mend  it"


def test_the_exit_status() -> None:
    fine, odd, bad = ok("a.one", "x"), warning("a.two", "x", "y"), failed("a.three", "x", "y")
    assert exit_status([fine, odd]) == 0
    assert exit_status([fine, odd, bad]) == 1


def test_json_for_programs() -> None:
    told = json.loads(as_json([failed("nats.rights.relay", "seen", "do")]))
    wanted = {"check": "nats.rights.relay", "layer": "nats", "status": "failed", "detail": "seen", "advice": "do"}
    assert told == [wanted]
