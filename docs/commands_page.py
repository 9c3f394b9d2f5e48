# ruff: noqa: SLF001  # argparse shows its actions nowhere else
"""The page `docs/reference/commands.md`, from the parsers of `edge-relay` and `edge-worker`."""

import argparse
from collections.abc import Iterator

import edge_worker.cli
from edge_relay.cli.arguments.parser import build
from edge_worker.settings import Settings as WorkerSettings

_HEAD = """# Commands

The page is made from the parsers; `--help` of each command says the same. [Settings](settings.md) lists the settings
that `edge-relay serve` and the commands of `edge-worker` take as options too.

## The relay's operators

Commands that read or change the fleet call the relay's operators' listener. They need its address and an access token:

* `edge-relay context add NAME --url URL --access-token-file FILE` names a relay once, in
  `~/.config/edge-relay/config.toml` (`$XDG_CONFIG_HOME`). The first context is the current one; `context use NAME` and
  `--context NAME` choose another.
* `RELAY_ADMIN_URL`, `RELAY_ACCESS_TOKEN_FILE` or `RELAY_ACCESS_TOKEN`, and `RELAY_ADMIN_CA_FILE` come before the
  current context. An address from elsewhere is never called with the token of a context.
* `--data-dir D` finds a standalone relay on the same machine by itself.

There is one way to each token:

| token | created by | listed and ended by |
|---|---|---|
| the first access token, and any while no relay is up | `edge-relay access-token create`, in NATS | `access-token` |
| every other access token | `edge-relay tokens create` | `edge-relay tokens list`, `revoke` |
| enrolment token of workers | `edge-relay enroll-token create` | `edge-relay tokens list`, `revoke` |

Lists are tables that fit the terminal; nothing is cut if the output is no terminal. Colours are left out there too, and
with `NO_COLOR`. `--json` prints one document: the answer of the API, all pages in one. `--watch` refreshes every two
seconds until Ctrl-C; with `--json`, it prints a line for each change. `--utc` prints times as ISO 8601 in UTC.

A change needs a reason, which the audit keeps. It names its targets, or gives filters, or `--all`. `--dry-run` says
what would change. On a terminal, a change of more than one target, or of a site, asks first, unless `--yes` is given.
`--until` takes 18:00, 'tomorrow 8:00', 2026-12-01T08:00 or 2h; a time without an offset is local.

Exit status of `edge-relay`: 0 done; 1 refused, failed, failed for some targets, or nothing matched; 2 wrong usage or
setting; 3 no answer: try again.

`edge-relay completion SHELL` prints a completion script. Write that of bash to
`~/.local/share/bash-completion/completions/edge-relay`, that of zsh to `_edge-relay` in a folder of `$fpath`, that of
fish to `~/.config/fish/completions/edge-relay.fish`. It offers names of workers, sites and queues, from the relay of
the current context or of the environment; without an answer at once it offers none.
"""
_SHARED = (
    "-h",
    "--help",
    "--version",
    "--context",
    "--data-dir",
    "--url",
    "--access-token-file",
    "--ca-file",
    "--json",
)
_SHARED_IN_LISTS = ("--watch", "--utc")
_CHANGES = ("--reason", "--dry-run", "--yes")
_CALLS = "--context"
_FILTERS = {"--site", "--queue", "--state", "--label", "--text"}


def page() -> str:
    """The page."""
    relay = "".join(_section(parser, name) for name, parser in _commands(build(None), "edge-relay"))
    worker_parser = edge_worker.cli.parser()
    worker = "".join(_section(parser, name) for name, parser in _commands(worker_parser, "edge-worker"))
    return (
        f"{_HEAD}\n"
        "Options that are left out below: those above, and where the relay is.\n\n"
        f"{relay}"
        "## The worker's machine\n\n"
        "[On the machine](../howto/on-the-machine.md) shows how the owner of a machine uses them. Settings are left\n"
        "out below.\n\n"
        f"{worker.rstrip()}\n"
    )


def _commands(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The commands that do something, with their words."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, child in action.choices.items():
                child_name = f"{name} {word}"
                if any(isinstance(one, argparse._SubParsersAction) for one in child._actions):
                    yield from _commands(child, child_name)
                else:
                    texts = {choice.dest: choice.help or "" for choice in action._choices_actions}
                    child.description = child.description or f"{texts[word][:1].upper()}{texts[word][1:]}."
                    yield child_name, child


def _section(parser: argparse.ArgumentParser, name: str) -> str:
    known = {option for action in parser._actions for option in action.option_strings}
    hidden = _hidden(name, known)
    rows = "".join(_row(action) for action in parser._actions if not hidden & {*action.option_strings})
    if _filters_of_workers(name, known):
        rows += "| filters | as of `workers list` |\n"
    words = " ".join([name, *(_argument(action) for action in parser._actions if not action.option_strings)])
    table = f"| | |\n|---|---|\n{rows}\n" if rows else ""
    return f"### {name}\n\n`{words}`: {_text(parser.description)}\n\n{table}"


def _hidden(name: str, known: set[str]) -> set[str]:
    """Options that the head of the page explains, and settings."""
    if name.startswith("edge-worker"):
        settings = {f"--{field.replace('_', '-')}" for field in WorkerSettings.model_fields}
        return {"-h", "--help", "--config", "--json", *settings}
    if name == "edge-relay serve":
        return known
    hidden = {"-h", "--help"}
    if _CALLS in known:
        hidden |= {*_SHARED, *_SHARED_IN_LISTS, *_CHANGES}
    if _filters_of_workers(name, known):
        hidden |= _FILTERS
    if name == "edge-relay doctor":
        from edge_relay.settings import Settings as RelaySettings

        hidden |= {f"--{field.replace('_', '-')}" for field in RelaySettings.model_fields}
    return hidden


def _filters_of_workers(name: str, known: set[str]) -> bool:
    """Whether these are the filters that `workers list` explains."""
    return name != "edge-relay workers list" and known >= _FILTERS


def _row(action: argparse.Action) -> str:
    choices = ", ".join(f"`{choice}`" for choice in action.choices or ())
    text = _text(action.help)
    explained = "; ".join(part for part in (text, choices) if part)
    if not action.option_strings:
        return f"| `{_argument(action)}` | {explained} |\n" if explained else ""
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    needed = " (needed)" if action.required else ""
    return f"| `{action.option_strings[0]}{value}`{needed} | {explained} |\n"


def _argument(action: argparse.Action) -> str:
    name = str(action.metavar or action.dest.upper())
    return {"*": f"[{name} …]", "?": f"[{name}]"}.get(str(action.nargs), name)


def _text(text: str | None) -> str:
    return " ".join((text or "").replace("%%", "%").replace("|", "\\|").split())
