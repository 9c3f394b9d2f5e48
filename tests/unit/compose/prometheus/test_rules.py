"""The alert rules: accepted by promtool, tested for firing and for staying quiet, each with its runbook."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

# PyYAML ships no types.
import yaml  # type: ignore[import-untyped]

from support.system.prometheus import ROOT, RULES, program

TESTS = Path(__file__).parent / "rules"


def rules(file: Path) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


ALERTS = rules(RULES / "alerts.yml")
CASES = [
    case
    for path in TESTS.glob("*.yml")
    for test in yaml.safe_load(path.read_text())["tests"]
    for case in test.get("promql_expr_test", ())
]
NAMES = sorted({str(rule["alert"]) for rule in ALERTS})
REFERENCE = (ROOT / "docs" / "reference" / "metrics.md").read_text()
CONFIG = ROOT / "compose" / "prometheus" / "prometheus.yml"
RUNBOOKS = ROOT / "docs" / "runbooks"


def promtool(*arguments: str) -> None:
    done = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_rules() -> None:
    promtool("check", "rules", *map(str, sorted(RULES.glob("*.yml"))))


def test_promtool_accepts_the_configuration_of_compose() -> None:
    promtool("check", "config", str(CONFIG))


def test_rules_name_metrics_that_there_are() -> None:
    """A rule on a name that nobody exports is valid, and never fires."""
    expressions = [rule["expr"] for file in RULES.glob("*.yml") for rule in rules(file)]
    names = {name for expr in expressions for name in re.findall(r"(?<!:)\bedge_[a-z0-9]\w+(?!:)", expr)}
    assert len(names) > 30
    plain = {re.sub(r"_(bucket|count|sum)$", "", name) for name in names}
    assert {name for name in plain if f"`{name}`" not in REFERENCE} == set()


@pytest.mark.parametrize("file", sorted(path.name for path in TESTS.glob("*.yml")))
def test_alerts_fire_and_stay_quiet_as_they_should(file: str) -> None:
    promtool("test", "rules", str(TESTS / file))


@pytest.mark.parametrize("name", NAMES)
def test_each_alert_is_tested_both_ways(name: str) -> None:
    """An alert without a case would not be noticed when its expression comes to match nothing, or everything."""
    looked_for = f'ALERTS{{alertname="{name}", alertstate="firing"}}'
    assert {bool(case["exp_samples"]) for case in CASES if case["expr"] == looked_for} == {True, False}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_each_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["system"] == "edge-relay"
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert len(rule["annotations"]["summary"]) < 140
    assert rule["annotations"]["description"]
    runbook = re.fullmatch(
        r"\{\{ \$externalLabels\.runbooks_url \}\}docs/runbooks/(\w+\.md)#(\w+)", rule["annotations"]["runbook_url"]
    )
    assert runbook is not None
    page, anchor = runbook.groups()
    assert anchor == rule["alert"].lower()
    assert f"\n## {rule['alert']}\n" in (RUNBOOKS / page).read_text()
    severities = sorted(
        {other["labels"]["severity"] for other in ALERTS if other["alert"] == rule["alert"]}, reverse=True
    )
    row = f"| [{rule['alert']}]({page}#{anchor}) | {', '.join(severities)} |"
    assert row in (RUNBOOKS / "README.md").read_text()
