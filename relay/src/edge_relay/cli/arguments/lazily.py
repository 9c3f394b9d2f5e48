"""Parsers and commands that are made, or imported, only when they are needed."""

import argparse
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from importlib import import_module
from typing import TypeAlias

Subparsers: TypeAlias = "argparse._SubParsersAction[ArgumentParser]"  # noqa: SLF001  # the type has no other name


def group(commands: Subparsers, name: str, text: str) -> Subparsers:
    """A command that has commands."""
    return commands.add_parser(name, help=text).add_subparsers(title="commands", metavar="COMMAND", required=True)


def lazily(module: str, function: str) -> Callable[[Namespace], None]:
    """A command that is imported when it runs, from a module of `edge_relay.cli`."""

    def run(options: Namespace) -> None:
        command: Callable[[Namespace], None] = getattr(import_module(f"edge_relay.cli.{module}"), function)
        command(options)

    return run
