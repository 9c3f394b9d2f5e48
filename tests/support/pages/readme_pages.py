"""The commands of the repository's README and of the READMEs of relay and schemas."""

from support.pages.compose_page import WELL, Expected
from support.pages.pages import NO_RELEASE, Page

DEMO, UP = "make demo", "make up"
DEMO_QUEUE = "make demo-queue"
BY_COMPOSE = {"cd compose && docker compose --profile edge up --detach --wait": WELL}
"""Run by `tests/compose`; `tests/e2e/docs/test_readmes.py` runs all others."""
README = Page(
    "README.md",
    {DEMO: Expected("the demo succeeded"), UP: Expected("Ctrl-C stops everything."), **BY_COMPOSE},
    {"make test": "it runs the test that would run it"},
)
LOCAL = Page[Expected](
    "compose/local/README.md",
    {**{command: README.run[command] for command in (DEMO, UP)}, DEMO_QUEUE: Expected("the demo succeeded")},
    dict.fromkeys(
        (
            ".run/up/centre/airflow edge-relay bundles list",
            ".run/up/centre/airflow edge-relay policy accesses --queue plant",
            ".run/up/centre/airflow edge-relay doctor",
            ".venv/bin/edge-relay workers list --data-dir .run/up/relay/data",
        ),
        "it needs the running system of `make up`, which its test stops at once",
    ),
)
STANDALONE = "edge-relay standalone --data-dir ./edge"
RELAY = Page(
    "relay/README.md",
    {
        STANDALONE: Expected("Edge Relay is up."),
        "edge-relay enroll-token create --data-dir ./edge --queues default --site plant-7": Expected("ere_"),
        "edge-relay workers list --data-dir ./edge": WELL,
        # The test runs no keeper, so the gate check fails.
        "edge-relay doctor --data-dir ./edge": Expected("ok         nats", may_fail=True),
    },
    {"pip install 'edge-relay[server]'": NO_RELEASE},
)
SCHEMAS = Page[Expected](
    "schemas/README.md",
    {},
    {"pip install edge-relay-schemas": NO_RELEASE, "pip install 'edge-relay-schemas[broker]'": NO_RELEASE},
)
