"""docker-compose.yaml, read as Compose reads it; no container is started here."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from moraine.workflows.many_home import ManyHome, commands
from servers import VERSITYGW

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OFFICIAL = {
    "postgres": "pg_isready -U airflow",
    "redis": "redis-cli ping",
    "airflow-apiserver": "curl --fail http://localhost:8080/api/v2/version",
    "airflow-scheduler": "curl --fail http://localhost:8974/health",
    "airflow-dag-processor": 'airflow jobs check --job-type DagProcessorJob --hostname "$${HOSTNAME}"',
    "airflow-worker": "celery --app airflow.providers.celery.executors.celery_executor.app inspect ping"
    ' -d "celery@$${HOSTNAME}"',
    "airflow-triggerer": 'airflow jobs check --job-type TriggererJob --hostname "$${HOSTNAME}"',
    "airflow-init": None,
    "airflow-cli": None,
}
KEYS = set("image build command entrypoint environment volumes ports expose user".split())
KEYS |= set("healthcheck restart depends_on profiles".split())
CONDITIONS = {"service_healthy", "service_completed_successfully"}


def strings(tree: Any) -> Iterator[tuple[str, str]]:
    """Every text with the key it stands under."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            for inner, text in strings(value):
                yield inner or str(key), text
    elif isinstance(tree, list):
        for value in tree:
            yield from strings(value)
    else:
        yield "", str(tree)


def in_profile(name: str) -> bool:
    return "demo" in SERVICES[name].get("profiles", [])


def words(command: str | list[str]) -> list[str]:
    return command.split() if isinstance(command, str) else list(command)


def test_the_official_services_are_there_and_the_others_are_of_the_demo() -> None:
    assert [name for name in SERVICES if not in_profile(name)] == list(OFFICIAL)
    assert SERVICES["airflow-cli"]["profiles"] == ["debug"]
    assert {name for name in SERVICES if in_profile(name)} == {"demo-store", "demo-seed"}


def test_every_service_has_known_keys_and_known_neighbours() -> None:
    assert set(COMPOSE) == {"x-airflow-common", "services", "volumes"}
    for name, service in SERVICES.items():
        assert set(service) <= KEYS, name
        for other, rule in service.get("depends_on", {}).items():
            assert rule["condition"] in CONDITIONS
            needed = SERVICES[other]
            assert "healthcheck" in needed or rule["condition"] != "service_healthy", (name, other)
            assert not in_profile(other) or in_profile(name), f"{name} would start {other} outside its profile"


@pytest.mark.parametrize("name", SERVICES)
def test_health_checks_are_the_official_ones(name: str) -> None:
    check = SERVICES[name].get("healthcheck")
    wanted = OFFICIAL.get(name)
    if wanted:
        kind, *command = check["test"]
        assert kind in ("CMD", "CMD-SHELL")
        assert " ".join(command) == wanted
    if SERVICES[name].get("restart") == "always":
        assert {"test", "interval", "retries", "start_period"} <= set(check)
    else:
        assert check is None  # it runs once, and its end is what others wait for


def test_images_are_pinned() -> None:
    base = re.search(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.M)
    assert base
    images = [service["image"] for service in SERVICES.values()]
    own = [image for image in images if image.startswith("${MORAINE_IMAGE:-")]
    for image in {base[1], *images}.difference(own):
        name, _, tag = image.rpartition(":")
        assert name and re.search(r"\d+\.\d+", tag) and "latest" not in tag, image
    assert all("build" in service for service in SERVICES.values() if service["image"] in own)
    assert f"ghcr.io/versity/versitygw:{VERSITYGW}" in images, "what the tests run"
    locked = re.search(r"^apache-airflow==(\S+)", (ROOT / "requirements.lock").read_text(), re.M)
    assert locked and f"slim-{locked[1]}-python3" in base[1]


def test_outside_the_demo_no_secret_has_a_default() -> None:
    secret = re.compile("PASSWORD|SECRET|FERNET|AUTH$|PASSPHRASE|CONN$|BACKEND$|BROKER_URL$")
    for name, service in SERVICES.items():
        for key, text in strings({name: service}):
            if secret.search(key) and not (in_profile(name) and key.startswith(("DEMO_", "ROOT_"))):
                assert re.search(r"\$\{\w+:\?[^}]+\}", text) or key.endswith("AUTH_MANAGER"), (name, key)
    required = set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yaml").read_text()))
    head = (ROOT / "docker-compose.yaml").read_text().split("\nx-airflow-common")[0]
    assert all(name in head for name in required)  # the comment makes all of them


def test_urls_hold_no_password_of_their_own() -> None:
    for _, text in strings(COMPOSE):
        for found in re.findall(r"\w+://[^/@\s]*:([^/@\s]+)@", text):
            assert found.startswith("${"), text


def test_what_is_mounted_exists() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            here, inside, *mode = re.sub(r"\$\{AIRFLOW_PROJ_DIR:-\.\}", ".", volume).split(":")
            assert inside.startswith("/") and mode in ([], ["ro"]), (name, volume)
            if here == "./logs":
                continue  # made by the commands of the comment
            assert (ROOT / here).is_dir() if here.startswith("./") else here in COMPOSE["volumes"], (name, volume)


def test_the_image_gets_what_it_copies() -> None:
    copied = re.findall(r"^COPY (?:--\S+ )?(\S+)", (ROOT / "Dockerfile").read_text(), re.M)
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied) == sent
    assert all((ROOT / name).exists() for name in copied)


def test_airflow_knows_every_setting() -> None:
    """Asked of Airflow itself, in a process of its own: here it is not imported."""
    program = (
        "import sys; from airflow.configuration import conf; from airflow.providers_manager import ProvidersManager;"
        "ProvidersManager().initialize_providers_configuration();"
        "known = {f'AIRFLOW__{s.upper()}__{o.upper()}' for s, section in conf.configuration_description.items()"
        " for o in section['options']};"
        "print('\\n'.join(sorted(set(sys.argv[1:]) - known)))"
    )
    named = {key for service in SERVICES.values() for key in service.get("environment", {})}
    names = sorted(key for key in named | set(settings()) if key.startswith("AIRFLOW__"))
    assert len(names) > 12
    done = subprocess.run(
        [sys.executable, "-c", program, *names, "AIRFLOW__CORE__NO_SUCH"], capture_output=True, text=True
    )
    assert done.stdout.split() == ["AIRFLOW__CORE__NO_SUCH"], done.stderr


def settings() -> dict[str, str]:
    class Home(ManyHome):
        def _secrets(self) -> dict[str, str]:
            return dict.fromkeys(("jwt_secret", "secret_key", "fernet_key", "password"), "x")

    return Home(postgres_port=1, redis_port=2).environment({}, port=3)


def test_without_containers_the_very_same_runs() -> None:
    """`./moraine many` and the file: the same services, commands and shape of settings."""
    without = commands(Path("/home"), 2)
    airflow = {name: command.arguments[4:] for name, command in without.items()}
    in_file = {name: service for name, service in SERVICES.items() if service.get("restart") and "airflow" in name}
    started = {" ".join(words(service["command"])) for service in in_file.values()}
    for command in airflow.values():
        assert any(" ".join(command).startswith(one) for one in started), command
        started = {one for one in started if not " ".join(command).startswith(one)} | {"celery worker"}
    assert started == {"celery worker"}
    ours, theirs = settings(), SERVICES["airflow-worker"]["environment"]
    same = ["CORE__EXECUTOR", "CORE__LOAD_EXAMPLES", "CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT"]
    for name in same:
        assert ours[f"AIRFLOW__{name}"].lower() == theirs[f"AIRFLOW__{name}"].lower()
    for name in ("CELERY__BROKER_URL", "CELERY__RESULT_BACKEND", "DATABASE__SQL_ALCHEMY_CONN"):
        assert ours[f"AIRFLOW__{name}"].split("//")[0] == theirs[f"AIRFLOW__{name}"].split("//")[0]
    assert set(theirs) - set(ours) <= {
        "AIRFLOW__CORE__AUTH_MANAGER",  # users in the database there, one user here
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION",  # the default of both, written out as in the official file
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK",  # the container's
        "DUMB_INIT_SETSID",  # the container's
        "MORAINE_POLICIES",
    }
