"""`policy`: what jobs may use of Airflow and what they used, from `/v1/admin` of a relay. Read only."""

import json
from argparse import Namespace
from collections.abc import Mapping

from edge_relay.cli.admin_client import connect, parse
from edge_relay.cli.output import EXIT_USAGE, Failure, print_json, print_line
from edge_schemas.admin.policies import AccessPage, PolicyPage
from edge_schemas.policies import suggest as suggestions
from edge_schemas.policies.listing import access_lines, policy_lines
from edge_schemas.policies.policy import PolicyTarget
from edge_schemas.wire import routes


def show_policies(options: Namespace) -> None:
    """`policy show`."""
    answer = connect(options).call("GET", routes.ADMIN_POLICIES)
    if options.json:
        print_json(json.loads(answer))
        return
    page = parse(PolicyPage, answer)
    readable = [(PolicyTarget(row.kind, row.name), row.policy) for row in page.items if row.policy is not None]
    for line in policy_lines(readable):
        print_line(line)
    for row in page.items:
        if row.policy is None:
            print_line(f"The policy of {row.kind} {row.name!r} can't be read by this version.")


def list_accesses(options: Namespace) -> None:
    """`policy accesses`."""
    answer = _accesses(options)
    if options.json:
        print_json(json.loads(answer))
        return
    page = parse(AccessPage, answer)
    for line in access_lines(page.items, page.others):
        print_line(line)


def suggest_policy(options: Namespace) -> None:
    """`policy suggest`."""
    page = parse(AccessPage, _accesses(options))
    policy = suggestions.suggest(page.items, group=options.group)
    if options.json:
        print_json(policy.model_dump(mode="json"))
        return
    target = PolicyTarget("site", options.site) if options.queue is None else PolicyTarget("queue", options.queue)
    lacking = suggestions.missing(policy, page.items, page.others)
    text = suggestions.as_toml(policy, suggestions.comments(str(target), page.since, page.items, lacking))
    print(text, end="")


def _accesses(options: Namespace) -> bytes:
    if (options.queue is None) == (options.site is None):
        raise Failure("give either --queue or --site", EXIT_USAGE)
    name: Mapping[str, str] = {"site": options.site} if options.queue is None else {"queue": options.queue}
    return connect(options).call("GET", routes.ADMIN_ACCESSES, query={**name, "days": str(options.days)})
