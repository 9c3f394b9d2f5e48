"""The compose files, the Dockerfiles and .env.example agree with each other; needs no Docker."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs would be one more package

COMPOSE = Path(__file__).parents[3] / "compose"
VARIABLE = re.compile(r"\$\{([A-Z0-9_]+):-([^}]*)\}")
DOCKERFILES = sorted((COMPOSE / "images").glob("*.Dockerfile"))


@cache
def services() -> dict[str, dict[str, Any]]:
    text = (COMPOSE / "compose.yaml").read_text()
    found: dict[str, dict[str, Any]] = yaml.safe_load(text)["services"]
    return found


def test_every_setting_is_in_the_example_with_the_same_default_and_the_other_way_round() -> None:
    files = (COMPOSE / "compose.yaml", COMPOSE / "without-airflow.yaml")
    used = {found for file in files for found in VARIABLE.findall(file.read_text())}
    example = (COMPOSE / ".env.example").read_text().splitlines()
    listed = [line.partition("=")[::2] for line in example if line and not line.startswith("#")]
    assert used == set(listed)
    assert len(listed) == len({name for name, _ in listed})


def test_no_variable_is_without_a_default() -> None:
    bare = re.findall(r"(?<!\$)\$(?:[A-Za-z_]|\{(?![A-Z0-9_]+:-))", (COMPOSE / "compose.yaml").read_text())
    assert bare == []


def test_without_airflow_nothing_starts_that_needs_it() -> None:
    """Of what starts by itself, no part has an image of Airflow, or depends on one that stays out."""
    changed: dict[str, dict[str, Any]] = yaml.safe_load((COMPOSE / "without-airflow.yaml").read_text())["services"]
    out = {name for name, service in changed.items() if "profiles" in service}
    assert changed.keys() <= services().keys()
    left = {name: service for name, service in services().items() if name not in out}
    assert {name for name, service in left.items() if "IMAGE_BRIDGE" in service["image"]} == set()
    needed = {one for service in left.values() for one in service.get("depends_on", {})}
    assert needed & out == set()
    assert {"nats", "provision", "relay", "balancer"} <= left.keys()


@pytest.mark.parametrize("name", services())
def test_every_service_gives_up_what_it_does_not_need(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert not service.get("privileged")


@pytest.mark.parametrize("name", services())
def test_root_is_only_who_hands_out_files(name: str) -> None:
    service = services()[name]
    handing_out = {"init", "init-ha", "enroll-token", "secret"}
    # Their images name a user of their own; Postgres becomes one by itself.
    by_image = {"relay", "relay-2", "balancer", "squid", "edge-worker", "postgres"}
    user = service.get("user", "")
    assert (user == "0:0") == (name in handing_out)
    assert (not user) == (name in by_image)


@pytest.mark.parametrize("name", services())
def test_what_stays_up_has_a_health_check(name: str) -> None:
    service = services()[name]
    ends = service["restart"] != "unless-stopped" or name == "toolbox"
    assert ("healthcheck" in service) == (not ends)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_dockerfiles_need_no_more_than_the_classic_builder(dockerfile: Path) -> None:
    text = dockerfile.read_text()
    assert not re.search(r"^# *syntax=|RUN +--mount|COPY +--chmod|<<", text, re.MULTILINE)
    # Airflow's own image ends as its own user.
    assert re.search(r"^USER \d|^FROM \$\{AIRFLOW_IMAGE\}", text, re.MULTILINE)


def test_images_are_installed_from_the_lock_only() -> None:
    for dockerfile in DOCKERFILES:
        installs = re.findall(r"pip[^&\n]* install ([^&\n]*)", dockerfile.read_text())
        assert all("--require-hashes" in line or "--no-index" in line for line in installs), dockerfile.name


def test_what_an_image_installs_is_a_part_of_the_lock() -> None:
    lock = (COMPOSE.parent / "requirements.lock").read_text()
    for file in (COMPOSE / "images" / "requirements").glob("*.txt"):
        assert all(line in lock for line in file.read_text().splitlines()[1:]), file.name
