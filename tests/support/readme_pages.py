"""The commands of the README, and of those of relay and schemas."""

from support.compose_page import WELL, Expected
from support.pages import NO_RELEASE, Page

DEMO, UP = "make demo", "make up"
BY_COMPOSE = {"cd compose && docker compose --profile edge up --detach --wait": WELL}
"""Run in `tests/compose`; all others in `tests/e2e/test_readmes.py`."""
README = Page(
    "README.md",
    {DEMO: Expected("the demo went well"), UP: Expected("Ctrl-C stops everything."), **BY_COMPOSE},
)
STANDALONE = "edge-relay standalone --data-dir ./edge"
RELAY = Page(
    "relay/README.md",
    {
        STANDALONE: Expected("Edge Relay is up."),
        "edge-relay enroll-token create --data-dir ./edge --queues default --site plant-7": Expected("ere_"),
        "edge-relay workers list --data-dir ./edge": WELL,
        # There is no keeper beside it.
        "edge-relay doctor --data-dir ./edge": Expected("ok         nats", may_fail=True),
    },
    {"pip install 'edge-relay[server]'": NO_RELEASE},
)
SCHEMAS = Page[Expected](
    "schemas/README.md",
    {},
    {"pip install edge-relay-schemas": NO_RELEASE, "pip install 'edge-relay-schemas[broker]'": NO_RELEASE},
)
