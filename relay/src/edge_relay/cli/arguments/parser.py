"""The command line."""

from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from importlib.metadata import version

from edge_relay.cli.arguments import access, broker, fleet, jobs, own, serving, submit
from edge_relay.cli.arguments.lazily import Subparsers

_EPILOG = "Exit status: 0 done, 1 refused or failed, 2 wrong usage or setting, 3 no answer (try again)."
_GROUPS: Sequence[tuple[str, str, Callable[[Subparsers], None]]] = (
    ("overview", fleet.OVERVIEW, fleet.add_overview),
    ("workers", fleet.WORKERS, fleet.add_workers),
    ("sites", fleet.SITES, fleet.add_sites),
    ("queues", fleet.QUEUES, fleet.add_queues),
    ("jobs", jobs.JOBS, jobs.add_jobs),
    ("dead", jobs.DEAD, jobs.add_dead),
    ("why", jobs.WHY, jobs.add_why),
    ("policy", jobs.POLICY, jobs.add_policy),
    ("submit", submit.SUBMIT, submit.add_submit),
    ("tokens", access.TOKENS, access.add_tokens),
    ("enroll-token", access.ENROLL, access.add_enroll_token),
    ("audit", access.AUDIT, access.add_audit),
)
"""The groups of operators' and producers' commands: name, what it is about, and what adds its options."""


def build(words: Sequence[str] | None) -> ArgumentParser:
    """The parser for these words: the options of a command are made only if it is the first of them.

    Args:
        words: None for the whole command line.
    """
    parser = ArgumentParser("edge-relay", description="A queue over HTTPS for tasks at the edge.", epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"edge-relay {version('edge-relay')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, text, add in _GROUPS:
        if words is None or name in words[:1]:
            add(commands)
        else:
            commands.add_parser(name, help=text)
    own.add_context(commands)
    own.add_completion(commands)
    serving.add_doctor(commands, with_settings=words is None or "doctor" in words[:1])
    serving.add_standalone(commands)
    serving.add_serve(commands, with_settings=words is None or "serve" in words[:1])
    broker.add_streams(commands)
    broker.add_access_token(commands)
    broker.add_nats_config(commands)
    return parser
