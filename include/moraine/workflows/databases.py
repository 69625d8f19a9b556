"""PostgreSQL and Redis from the system's packages, private to one checkout: loopback only, with passwords.

Knows how they are found, made and asked whether they are ready; `services` runs them. PostgreSQL refuses to be run by
root: there it runs as the `postgres` user of its package, in a folder below that user's home.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from moraine.errors import ConfigError
from moraine.model.record import dataclass
from moraine.workflows.airflow_home import write_private
from moraine.workflows.services import Command

NAME = "airflow"  # of the database, and of the role that owns it
_MISSING = "several workers need PostgreSQL and Redis, and this machine has no {}"
_INSTALL = "on Debian: apt install postgresql redis-server"


@dataclass(frozen=True, slots=True)
class PostgreSQL:
    """A cluster of its own."""

    programs: Path
    folder: Path
    user: str | None
    port: int

    @classmethod
    def of(cls, home: Path, port: int) -> PostgreSQL:
        """The cluster of a home. Raises ConfigError when PostgreSQL is not installed."""
        programs = _postgres_programs()
        if os.geteuid() != 0:
            return cls(programs, home / "postgres", None, port)
        try:
            user = pwd.getpwnam("postgres")
        except KeyError as error:
            raise ConfigError(_MISSING.format("user `postgres` to run PostgreSQL as"), hint=_INSTALL) from error
        mark = hashlib.blake2b(str(home).encode(), digest_size=6).hexdigest()
        return cls(programs, Path(user.pw_dir) / f"moraine-{mark}", user.pw_name, port)

    def prepare(self, password: str, log: Path) -> None:
        """Make the cluster with its role and database, once."""
        if (self.folder / "moraine.made").exists():
            return
        if self.folder.exists():  # what an interrupted first time has left
            shutil.rmtree(self.folder)
        initdb = ["initdb", "-D", str(self.folder), "-E", "UTF8", "--locale=C.UTF-8", "--no-instructions"]
        self._run([*initdb, "--auth-host=scram-sha-256", "--auth-local=peer"], "", log)
        # In single-user mode, where no port is open and no password passes through an argument list.
        rows = f"CREATE ROLE {NAME} LOGIN PASSWORD '{password}'\nCREATE DATABASE {NAME} OWNER {NAME}\n"
        self._run(["postgres", "--single", "-D", str(self.folder), "postgres"], rows, log)
        (self.folder / "moraine.made").touch()

    def command(self) -> Command:
        """How it is run."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
        }
        arguments = [f"--{name}={value}" for name, value in settings.items()]
        program = str(self.programs / "postgres")
        fast = signal.SIGINT  # SIGTERM would wait for every client to go
        return Command([program, "-D", str(self.folder), *arguments], user=self.user, end=fast, base=True)

    def ready(self) -> bool:
        """Whether it answers."""
        question = [str(self.programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(question, check=False).returncode == 0

    def remove(self) -> None:
        """Delete the cluster. It must not run."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, command: list[str], text: str, log: Path) -> None:
        with log.open("ab") as output:
            done = subprocess.run(
                [str(self.programs / command[0]), *command[1:]],
                input=text.encode(),
                stdout=output,
                stderr=output,
                cwd="/",
                check=False,
                user=self.user,
                group=self.user,
                extra_groups=[] if self.user else None,
            )
        if done.returncode:
            raise ConfigError(f"{command[0]} could not prepare PostgreSQL in {self.folder}", hint=f"see {log}")


@dataclass(frozen=True, slots=True)
class Redis:
    """A broker that keeps nothing on disk: what was queued when it ended, the scheduler queues again."""

    program: Path
    config: Path
    port: int

    @classmethod
    def of(cls, home: Path, port: int) -> Redis:
        """The broker of a home. Raises ConfigError when Redis is not installed."""
        program = shutil.which("redis-server")
        if program is None:
            raise ConfigError(_MISSING.format("redis-server"), hint=_INSTALL)
        return cls(Path(program), home / "redis.conf", port)

    def prepare(self, password: str) -> None:
        """Write its settings."""
        lines = ["bind 127.0.0.1", f"port {self.port}", f"requirepass {password}", 'save ""', "appendonly no"]
        write_private(self.config, "\n".join([*lines, f'dir "{self.config.parent}"', ""]))

    def command(self) -> Command:
        """How it is run."""
        return Command([str(self.program), str(self.config)], base=True)

    def ready(self) -> bool:
        """Whether it listens."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def _postgres_programs() -> Path:
    """Where initdb and postgres are: Debian keeps them out of PATH. The newest version wins."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    if not versions:
        raise ConfigError(_MISSING.format("PostgreSQL"), hint=_INSTALL)
    return versions[-1].parent
