"""The commands that run a relay, and that check what a relay needs."""

import argparse
from argparse import ArgumentParser
from pathlib import Path

from edge_relay.cli.arguments import option_types as types
from edge_relay.cli.arguments.lazily import Subparsers, lazily


def add_serve(commands: Subparsers, *, with_settings: bool) -> None:
    """`serve`."""
    serve = commands.add_parser(
        "serve",
        help="serve workers and operators",
        description="Serve one replica of the relay. Each option is also a variable: --nats-urls is RELAY_NATS_URLS.",
    )
    if with_settings:
        _add_settings(serve)
    serve.set_defaults(command=lazily("serving", "serve"))


def _add_settings(parser: "ArgumentParser | argparse._ArgumentGroup") -> None:
    from edge_relay.settings import Settings

    for name, field in Settings.model_fields.items():
        text = (field.description or "").replace("%", "%%")
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="VALUE", help=text)


def add_doctor(commands: Subparsers, *, with_settings: bool) -> None:
    """`doctor`."""
    doctor = commands.add_parser(
        "doctor",
        help="find what keeps the relay from serving, and what to do about it",
        description="Check, on the relay's machine and with its settings, what a relay needs: secrets, NATS, streams, "
        "keepers, its own listeners. Changes nothing.",
        epilog="Exit status: 0 all is well (warnings too), 1 something failed, 2 wrong usage.",
    )
    doctor.add_argument("--data-dir", type=Path, metavar="D", help="of a standalone relay on this machine")
    if not with_settings:
        doctor.add_argument("--public-url", metavar="URL", help="address of the relay for workers")
    doctor.add_argument("--ca-file", type=Path, metavar="FILE", help="PEM CA file for the public URL")
    for role in ("admin", "operator"):
        text = f"of NATS user {role}: the doctor then checks as this user too"
        doctor.add_argument(f"--{role}-password-file", type=Path, metavar="FILE", help=text)
    doctor.add_argument("--json", action="store_true", help="print all findings as a JSON array")
    if with_settings:
        _add_settings(doctor.add_argument_group("settings of the relay, as for serve"))
    doctor.set_defaults(command=lazily("doctor", "doctor"))


def add_standalone(commands: Subparsers) -> None:
    """`standalone`."""
    text = "Run nats-server and the relay together, for a laptop, a demo, or a small site."
    one = commands.add_parser("standalone", help="run nats-server and the relay in one command", description=text)
    one.add_argument("--data-dir", type=Path, required=True, metavar="D", help="for everything; created if missing")
    one.add_argument("--host", help="address for workers; default 127.0.0.1")
    one.add_argument("--port", type=types.port, help="for workers; default 8443 or the next free one, 0 for any")
    one.add_argument("--operator-port", type=types.port, help="for operators; default 8444 or the next free one")
    one.add_argument("--nats-port", type=types.port, help="of nats-server; default 4222 or the next free one")
    one.add_argument("--public-url", metavar="URL", help="address for workers, if not the listener's")
    one.add_argument("--tls-host", action="append", default=[], metavar="NAME", help="more names in the certificate")
    one.add_argument("--gate-url", action="append", default=[], metavar="URL", help="of a keeper's gate")
    one.add_argument("--nats-server", type=Path, metavar="PATH", help="the nats-server to run")
    one.set_defaults(command=lazily("serving", "standalone"))
