"""Airflow's private home inside the checkout: folders, secrets, settings by environment, database.

Owns `.airflow/` and every `AIRFLOW__…` setting; nothing of the user's other Airflow gets in. Imports no Airflow, so
that what needs only the settings starts fast. `python -m moraine.workflows.airflow_home ARGS` is `airflow ARGS`.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from importlib.metadata import version
from pathlib import Path

from moraine.errors import ConfigError
from moraine.model.record import dataclass
from moraine.steps.private_file import create_private

ROOT = Path(__file__).resolve().parents[3]
USER = "admin"


@dataclass(frozen=True)
class AirflowHome:
    """The home of one checkout; `settings` (`scheduler.parallelism` → value) overrule everything else."""

    root: Path = ROOT
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """AIRFLOW_HOME."""
        return self.root / ".airflow"

    @property
    def logs(self) -> Path:
        """Where all output of Airflow goes."""
        return self.path / "logs"

    @property
    def password(self) -> str:
        """What `USER` logs in with."""
        return self._secrets()["password"]

    def environment(self, inherited: Mapping[str, str], *, port: int | None = None) -> dict[str, str]:
        """The settings of a process of this Airflow; of the inherited ones only connections and variables stay."""
        own = ("AIRFLOW__", "AIRFLOW_HOME", "AIRFLOW_CONFIG")
        kept = {name: value for name, value in inherited.items() if not name.startswith(own)}
        include = str(self.root / "include")
        others = [part for part in kept.get("PYTHONPATH", "").split(os.pathsep) if part not in ("", include)]
        direct = ",".join(filter(None, [kept.get("no_proxy") or kept.get("NO_PROXY"), "localhost", "127.0.0.1"]))
        path = {"PYTHONPATH": os.pathsep.join([include, *others]), "NO_PROXY": direct, "no_proxy": direct}
        return {**kept, **path, **self._settings(), **(_addresses(port) if port else {}), **self._overruling()}

    def prepare(self, inherited: Mapping[str, str]) -> None:
        """Make folders, secrets and database, each once; safe to call from several processes."""
        self.make_folders()
        with self.lock("prepare"):
            self.keep_secrets()
            made_by = self.path / "database-version"
            wanted = f"{version('apache-airflow')} with pools"
            if made_by.exists() and made_by.read_text() == wanted and (self.path / "airflow.db").exists():
                return
            if not made_by.exists():  # what an interrupted first time has left is no database
                for file in self.path.glob("airflow.db*"):
                    file.unlink()
            self._migrate(inherited)
            made_by.write_text(wanted)

    def make_folders(self) -> None:
        """Make the folders alone."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.logs.mkdir(exist_ok=True)

    @contextmanager
    def lock(self, name: str, *, wait: bool = True) -> Iterator[None]:
        """Hold a lock of this home. Raises BlockingIOError when it is taken and `wait` is false."""
        with (self.path / f"{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            yield

    def _settings(self) -> dict[str, str]:
        keys = self._secrets()
        return {
            "AIRFLOW_HOME": str(self.path),
            "AIRFLOW__API__SECRET_KEY": keys["secret_key"],
            "AIRFLOW__API_AUTH__JWT_SECRET": keys["jwt_secret"],
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.root / "dags"),
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__FERNET_KEY": keys["fernet_key"],
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(self.root / "plugins"),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.path / "passwords.json"),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",  # its only user may do everything anyway
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.path / 'airflow.db'}",
            "DO_NOT_TRACK": "1",
            "GX_ANALYTICS_ENABLED": "false",
            "SCARF_ANALYTICS": "false",
        }

    def _overruling(self) -> dict[str, str]:
        return dict(map(_variable, self.settings, self.settings.values()))

    def _secrets(self) -> dict[str, str]:
        content: dict[str, str] = json.loads((self.path / "secrets.json").read_text())
        return content

    def keep_secrets(self) -> None:
        """Make passwords and keys, each once."""
        file = self.path / "secrets.json"
        if not file.exists():
            made = {name: secrets.token_urlsafe(48) for name in ("jwt_secret", "secret_key")}
            made["fernet_key"] = urlsafe_b64encode(secrets.token_bytes(32)).decode()
            made["password"] = secrets.token_urlsafe(12)
            write_private(file, json.dumps(made))
        write_private(self.path / "passwords.json", json.dumps({USER: self.password}))

    def _migrate(self, inherited: Mapping[str, str]) -> None:
        log = self.logs / "database.log"
        command = [sys.executable, "-P", "-m", "moraine.workflows.pools"]
        with log.open("w") as output:
            done = subprocess.run(command, env=self.environment(inherited), stdout=output, stderr=output, check=False)
        if done.returncode:
            raise ConfigError(
                f"Airflow's database could not be prepared, see {log}", hint=f"{self.path} may be deleted"
            )


def _addresses(port: int) -> dict[str, str]:
    return {
        "AIRFLOW__API__BASE_URL": f"http://localhost:{port}",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
    }


def setting(text: str) -> tuple[str, str]:
    """`SECTION.KEY=VALUE`, as a flag gives it, taken apart."""
    name, _, value = text.partition("=")
    return name, value


def _variable(name: str, value: str) -> tuple[str, str]:
    section, dot, key = name.partition(".")
    if not (section and dot and key):
        raise ConfigError(f"{name!r} is no setting of Airflow", hint="write SECTION.KEY=VALUE")
    return f"AIRFLOW__{section.upper()}__{key.upper()}", value


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read, at once or not at all."""
    aside = file.with_name(f"{file.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)  # left by a dead process of this number
    create_private(aside, text)
    aside.replace(file)


def main() -> None:
    """Be the `airflow` command of this home."""
    home = AirflowHome()
    home.prepare(os.environ)
    os.execve(sys.executable, [sys.executable, "-P", "-m", "airflow", *sys.argv[1:]], home.environment(os.environ))


if __name__ == "__main__":
    main()
