"""Changes: who they are for, the question before many are changed, and what became of it."""

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from edge_relay.cli.admin_client import ACTION_TIMEOUT_S, AdminClient, connect, parse, wrong_input
from edge_relay.cli.output import Failure, print_json, print_line, printable
from edge_relay.cli.show.progress import progress
from edge_relay.cli.show.screen import local
from edge_schemas.admin.actions import ActionFailure, ActionResult

CHUNK = 1000
"""So many named targets are sent at once; the sites' and queues' limit."""
MOST_LISTED = 10


@dataclass(frozen=True)
class Kind:
    """A kind of target.

    Attributes:
        field: Of the request, for names.
        request: The model of the request.
    """

    one: str
    many: str
    path: str
    field: str
    request: type[BaseModel]


@dataclass(frozen=True)
class Targets:
    """Whom an action is for: named ones, or those that match.

    Attributes:
        names: As the request has them: texts, or objects for queues.
        where: The filter; None if they are named, or all.
        all: Every worker.
        whose: The filter in words, for the question: ` with site plant-7`.
        asks: A question is asked also if there is only one: it stands for many.
    """

    names: Sequence[object] = ()
    where: Mapping[str, object] | None = None
    all: bool = False
    whose: str = ""
    asks: bool = False


@dataclass(frozen=True)
class Verb:
    """An action in words.

    Attributes:
        todo: Before it: `pause`.
        done: After it: `Paused`.
        after: What else people should know afterwards.
    """

    todo: str
    done: str
    after: str = ""


def act(options: Namespace, kind: Kind, targets: Targets, verb: Verb, action: Mapping[str, object]) -> None:
    """Act, and print what became of it.

    Raises:
        Failure: It was refused, nothing matches, or some targets could not be changed.
    """
    requests = _requests(options, kind, targets, action)
    client = connect(options)
    if options.dry_run or can_ask(options):
        planned = _send(client, kind, requests, f"looking for {kind.many}", dry_run=True)
        if options.dry_run:
            _report(options, kind, verb, planned)
            return
        if _count(planned) > (0 if targets.asks else 1) and not _is_agreed(kind, targets, verb, planned, options):
            raise Failure("nothing was changed")
    done = _send(client, kind, requests, f"{verb.todo} {kind.many}", dry_run=False)
    _report(options, kind, verb, done)


def availability(options: Namespace, do: str) -> tuple[Verb, dict[str, object]]:
    """Pause, resume, drain or stop, in words and for the wire."""
    until = getattr(options, "until", None)
    when = "" if until is None else f" until {local(until, until.now().astimezone())}"
    verbs = {
        "pause": Verb("pause", f"Paused{when}"),
        "resume": Verb("resume", "Resumed"),
        "drain": Verb("drain", f"Draining{when}"),
        "stop": Verb("stop", f"Stopping{when}"),
    }
    action: dict[str, object] = {"do": do}
    if until is not None:
        action["until"] = until
    return verbs[do], action


def _requests(options: Namespace, kind: Kind, targets: Targets, action: Mapping[str, object]) -> list[BaseModel]:
    """The requests: one for all or a filter, one for each thousand names."""
    base = {"action": action, "reason": options.reason}
    if targets.all:
        bodies: list[dict[str, object]] = [{**base, "all": True}]
    elif targets.where is not None:
        bodies = [{**base, "where": targets.where}]
    else:
        starts = range(0, len(targets.names), CHUNK)
        bodies = [{**base, kind.field: list(targets.names[start : start + CHUNK])} for start in starts]
    try:
        return [kind.request.model_validate(body) for body in bodies]
    except ValidationError as error:
        raise wrong_input(error) from None


def _send(
    client: AdminClient, kind: Kind, requests: Sequence[BaseModel], text: str, *, dry_run: bool
) -> list[ActionResult]:
    results = []
    for number, request in enumerate(requests):
        body = request.model_copy(update={"dry_run": dry_run}).model_dump_json(exclude_unset=True)
        so_far = f" ({number * CHUNK:,} done)" if number else ""
        with progress(text + so_far):
            try:
                answer = client.call("POST", kind.path, body, timeout_s=ACTION_TIMEOUT_S)
            except Failure as failure:
                if number:
                    text = f"{failure}. The first {number * CHUNK:,} {kind.many} were dealt with; repeat the command"
                    raise Failure(text, failure.status) from None
                raise
        results.append(parse(ActionResult, answer))
    return results


def can_ask(options: Namespace) -> bool:
    """Whether someone can answer a question, and has not done so by `--yes`."""
    return not options.yes and sys.stdin.isatty() and sys.stderr.isatty()


def _is_agreed(kind: Kind, targets: Targets, verb: Verb, planned: Sequence[ActionResult], options: Namespace) -> bool:
    until = getattr(options, "until", None)
    when = "" if until is None else f" until {local(until, until.now().astimezone())}"
    question = f"{verb.todo} {_number(kind, _count(planned))}{targets.whose}{when}?"
    print(f"{printable(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    try:
        return input().strip().lower() in {"y", "yes"}
    except EOFError:
        return False


def _report(options: Namespace, kind: Kind, verb: Verb, results: Sequence[ActionResult]) -> None:
    changed = [name for result in results for name in result.changed]
    failures = [failure for result in results for failure in result.failures]
    count, failed = _count(results), sum(result.failure_count for result in results)
    unchanged = sum(result.unchanged_count for result in results)
    absent = [name for result in results for name in result.absent]
    if options.json:
        print_json(
            ActionResult(
                changed=tuple(changed),
                changed_count=count,
                unchanged_count=unchanged,
                failures=tuple(failures),
                failure_count=failed,
                absent=tuple(absent),
                dry_run=options.dry_run,
            ).model_dump(mode="json")
        )
    else:
        _tell(kind, verb, changed, count, unchanged, is_dry=options.dry_run)
        if absent:
            text = "no worker serves it, and it had no job. Is the name right?"
            print_line(f"No such {kind.one} yet: {', '.join(absent[:MOST_LISTED])}: {text}")
    _fail(kind, failures, failed, is_nothing=count + unchanged + failed == 0)


def _tell(kind: Kind, verb: Verb, changed: Sequence[str], count: int, unchanged: int, *, is_dry: bool) -> None:
    if count:
        start = f"Would {verb.todo}" if is_dry else f"{verb.done}:"
        more = f" and {count - MOST_LISTED:,} more" if count > MOST_LISTED else ""
        print_line(f"{start} {_number(kind, count)} ({', '.join(changed[:MOST_LISTED])}{more}).")
        if verb.after and not is_dry:
            print_line(verb.after)
    if unchanged:
        print_line(f"Already so: {_number(kind, unchanged)}.")


def _fail(kind: Kind, failures: Sequence[ActionFailure], failed: int, *, is_nothing: bool) -> None:
    if is_nothing:
        raise Failure(f"no {kind.one} matches; 'edge-relay {kind.field} list' shows all")
    if failed:
        lines = [f"  {failure.target}: {failure.detail} ({failure.code})" for failure in failures[:MOST_LISTED]]
        if failed > len(lines):
            lines.append(f"  and {failed - len(lines):,} more")
        raise Failure("\n".join([f"{_number(kind, failed)} could not be changed:", *lines]))


def _count(results: Sequence[ActionResult]) -> int:
    return sum(result.changed_count for result in results)


def _number(kind: Kind, count: int) -> str:
    return f"{count:,} {kind.one if count == 1 else kind.many}"
