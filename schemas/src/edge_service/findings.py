"""Findings of `edge-worker doctor`, `edge-relay doctor` and `airflow edge-relay doctor`, in one form.

A doctor is a list of checks, from the outermost layer inwards. A check changes nothing and has a time limit. It is not
tried if a check that it needs has failed, so that one fault is reported once and not ten times.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

CHECK_LIMIT_S = 10.0


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    NOT_TRIED = "not_tried"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a doctor.

    Attributes:
        check: The check's stable id, `layer.what`. A check of several things of a kind (queues, keepers) may have a
            finding for each.
        detail: What was seen, without secrets.
        advice: What to do; empty only if all is well or it was not tried.
    """

    check: str
    status: Status
    detail: str
    advice: str = ""

    @property
    def layer(self) -> str:
        """What the check is about, for people."""
        return self.check.partition(".")[0]


def ok(check: str, detail: str) -> Finding:
    """As it should be."""
    return Finding(check, Status.OK, detail)


def warning(check: str, detail: str, advice: str) -> Finding:
    """Works, but is unusual or will cause trouble."""
    return Finding(check, Status.WARNING, detail, advice)


def failed(check: str, detail: str, advice: str) -> Finding:
    """Jobs can't run, or not all of them."""
    return Finding(check, Status.FAILED, detail, advice)


@dataclass(frozen=True, slots=True)
class Check:
    """One check of one thing.

    Attributes:
        id: See `Finding.check`; the findings of `run` have this id.
        run: Makes the check. No side effects; an exception becomes a finding.
        needs: Ids of earlier checks without which this one makes no sense.
        limit_s: Seconds that it may take.
    """

    id: str
    run: Callable[[], Awaitable[Finding | Iterable[Finding]]]
    needs: tuple[str, ...] = ()
    limit_s: float = CHECK_LIMIT_S


def known(finding: Finding) -> Check:
    """A check whose finding is known already."""

    async def run() -> Finding:
        return finding

    return Check(finding.check, run)


async def examine(checks: Iterable[Check]) -> AsyncIterator[Finding]:
    """Run the checks in their order; each finding is yielded as soon as it is known."""
    causes: dict[str, str] = {}
    """Of each check that failed or was not tried, the one that failed first."""
    for check in checks:
        cause = next((causes[need] for need in check.needs if need in causes), None)
        if cause is not None:
            causes[check.id] = cause
            yield Finding(check.id, Status.NOT_TRIED, f"{check.id}: because of {cause}")
            continue
        for finding in await _run(check):
            if finding.status is Status.FAILED:
                causes[check.id] = check.id
            yield finding


async def _run(check: Check) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(check.limit_s):
            found = await check.run()
    except TimeoutError:
        return [
            failed(
                check.id, f"not done after {check.limit_s:g} s", "Check the service that it calls: it hangs or is slow."
            )
        ]
    except Exception as error:  # noqa: BLE001  # reported, and the other checks still run
        detail = f"the check itself failed: {type(error).__name__}: {error}"
        return [failed(check.id, detail, "This is a bug of the doctor: please report it.")]
    return [found] if isinstance(found, Finding) else list(found)


_WORDS = {Status.OK: "ok", Status.WARNING: "warning", Status.FAILED: "FAILED", Status.NOT_TRIED: "not tried"}
_STATUS_WIDTH = max(map(len, _WORDS.values()))
_LAYER_WIDTH = 12


def as_text(finding: Finding) -> str:
    """A line for people, with the advice on a second line if there is any."""
    line = f"{_WORDS[finding.status]:{_STATUS_WIDTH}}  {finding.layer:{_LAYER_WIDTH}}  {_printable(finding.detail)}"
    if not finding.advice:
        return line
    return f"{line}\n{' ' * (_STATUS_WIDTH + 2)}{_printable(finding.advice)}"


def as_json(findings: Iterable[Finding]) -> str:
    """All findings for programs: an array of objects. Everything but ASCII is escaped."""
    objects = [
        {
            "check": finding.check,
            "layer": finding.layer,
            "status": finding.status,
            "detail": finding.detail,
            "advice": finding.advice,
        }
        for finding in findings
    ]
    return json.dumps(objects, indent=2)


def exit_status(findings: Iterable[Finding]) -> int:
    """0 if nothing failed (warnings are no failure), else 1."""
    return int(any(finding.status is Status.FAILED for finding in findings))


def _printable(text: str) -> str:
    """On one line, and without control characters: much of it comes from other machines."""
    return "".join(char if char.isprintable() else " " for char in text)
