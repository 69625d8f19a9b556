"""What a verb works with: the environment, the clock and randomness, output, and the repository of its flags.

The only place that reads environment variables and asks for passphrases. Imports of stores and repositories wait
until one is opened.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Mapping
from dataclasses import field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from moraine.cli.output import Output
from moraine.errors import ConfigError
from moraine.model.record import dataclass

_MOST_CORES = 4
STATE = "/.moraine"  # ends the address of what a mirror knows of itself

if TYPE_CHECKING:
    from moraine.cli.unlocking import Unlocking
    from moraine.model.policy import Policy, RepositoryAddress
    from moraine.model.policy_file import BrokenPolicy
    from moraine.repository.repository import Repository
    from moraine.stores.base import Store
    from moraine.stores.metered import Meter


@dataclass(slots=True)
class Context:
    """One call of the command line."""

    out: Output
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    meter: Meter | None = None  # counts what stores are asked
    _unlocking: Unlocking | None = None

    def clock(self) -> datetime:
        """The present, aware, in UTC."""
        return datetime.now(UTC)

    def entropy(self, count: int) -> bytes:
        """Random bytes fit for keys."""
        return os.urandom(count)

    def cores(self) -> int:
        """Processors this process may use, as far as it is to use them: each thread or process at work takes memory."""
        allowed = getattr(os, "sched_getaffinity", None)  # Linux has it
        return min(len(allowed(0)) if allowed else os.cpu_count() or 1, _MOST_CORES)

    def opens_silently(self, args: argparse.Namespace, address: RepositoryAddress) -> bool:
        """Whether the secret is in a file, so that opening the repository asks nobody and waits for nobody."""
        return bool(self._secret_file(args) or (address.passphrase_file and not args.repo))

    def begin_aside(self, args: argparse.Namespace, *, thread: bool = True) -> None:
        """Begin to open the repository of the flags, if that needs no question, while the caller goes on loading.

        `thread=False`: only if that takes no thread, since one forbids a fork.
        """
        named, secret = args.repo or self.environ.get("MORAINE_REPOSITORY"), self._secret_file(args)
        without = named and not named.startswith("s3://") and secret and os.path.isfile(secret)
        if not self._unlocking and named and secret and (thread or without):
            self._unlocking = self._unlock(args, None)

    def _secret_file(self, args: argparse.Namespace) -> str | None:
        return args.passphrase_file or self.environ.get("MORAINE_PASSPHRASE_FILE")

    def _unlock(self, args: argparse.Namespace, url: str | None) -> Unlocking:
        from moraine.cli.unlocking import Unlocking

        path = self._secret_file(args)
        store = self.open_store(args, url)
        file = path is not None and os.path.isfile(path)
        return Unlocking(store, lambda: self.passphrase(path), aside=path is not None, file=file)

    def close(self) -> None:
        """End what was begun and is not wanted."""
        if self._unlocking:
            self._unlocking.close()

    def open_store(self, args: argparse.Namespace, url: str | None = None) -> Store:
        """The store of `url`, --repo or MORAINE_REPOSITORY. Raises ConfigError when none is named."""
        from moraine.stores.metered import Meter
        from moraine.stores.open import open_store

        url = url or args.repo or self.environ.get("MORAINE_REPOSITORY")
        if not url:
            raise ConfigError("no repository is named", hint="give --repo URL or set MORAINE_REPOSITORY")
        self.meter = self.meter or Meter()
        place = {"endpoint_url": args.endpoint_url, "region": args.region}
        return open_store(_state_of(url), **place, environ=self.environ, meter=self.meter)

    def open_repository(self, args: argparse.Namespace, url: str | None = None) -> Repository:
        """The repository at `url`, --repo or MORAINE_REPOSITORY."""
        unlocking = self._unlocking or self._unlock(args, url)
        from moraine.repository.repository import Repository

        store = unlocking.store
        repository = Repository.enter(store, unlocking.result(), entropy=self.entropy)
        seen = f"{len(repository.state.snapshots)} snapshots, log entry {repository.state.number}"
        if store.url.endswith(STATE):
            self._find_mirror(repository, args)
        self.out.detail(f"repository {repository.config.id} at {store.url}: {seen}")
        self.loaded()
        return repository

    def loaded(self) -> None:
        """What is loaded by now stays; from here on garbage is collected (`__main__` has put that off)."""
        gc.freeze()
        gc.enable()

    def _find_mirror(self, repository: Repository, args: argparse.Namespace) -> None:
        """The content of a mirror's snapshots is in its tree."""
        from moraine.steps.mirror_place import find_mirror

        origin = next((record.source for record in repository.state.snapshots.values()), "")
        repository.mirror = find_mirror(
            repository.store.url, origin, endpoint_url=args.endpoint_url, region=args.region, environ=self.environ
        )

    def open_policy_repository(self, args: argparse.Namespace, policy: Policy) -> Repository:
        """The repository of --repo, or else the one a policy names, with the passphrase file and the flags it names."""
        address = policy.repository
        if args.repo:
            return self.open_repository(args)
        if address.connection and not address.url.startswith(("/", "file:")):
            self.out.note(f"connection {address.connection} belongs to Airflow: here the AWS credential chain is used")
        named = {
            "endpoint_url": address.endpoint_url,
            "region": address.region,
            "passphrase_file": address.passphrase_file,
        }
        merged = argparse.Namespace(
            **vars(args) | {name: getattr(args, name) or value for name, value in named.items()}
        )
        return self.open_repository(merged, address.url)

    def find_policy(self, name: str) -> Policy:
        """The policy in the file `name`, or the one of that name in MORAINE_POLICIES or include/policies.

        Raises:
            ConfigError: there is none, or its file is broken.
        """
        from moraine.model.policy_file import load_policy
        from moraine.steps.policies import choose_policy, policy_folder

        if os.sep in name or name.endswith((".yaml", ".yml")) or os.path.isfile(name):
            return load_policy(name)
        return choose_policy(name, *self.all_policies(), policy_folder(self.environ))

    def all_policies(self) -> tuple[list[Policy], list[BrokenPolicy]]:
        """The policies in MORAINE_POLICIES or include/policies, and the files there that hold none."""
        from moraine.model.policy_file import load_policies
        from moraine.steps.policies import policy_folder

        return load_policies(policy_folder(self.environ))

    def passphrase(self, path: str | None) -> bytes:
        """The passphrase in the file at `path` or MORAINE_PASSPHRASE_FILE, else as typed. Raises ConfigError."""
        path = path or self.environ.get("MORAINE_PASSPHRASE_FILE")
        return self._read(path) if path else self._ask("passphrase")

    def new_passphrase(self, path: str | None) -> bytes:
        """A new passphrase from the file at `path`, else typed twice. Raises ConfigError."""
        if path:
            return self._read(path)
        secret = self._ask("new passphrase")
        if self._ask("new passphrase again") != secret:
            raise ConfigError("the two passphrases differ", hint="type the same one twice")
        return secret

    def _read(self, path: str) -> bytes:
        from moraine.steps.passphrase import read_passphrase

        return read_passphrase(path)

    def _ask(self, what: str) -> bytes:
        if sys.stdin is None or not sys.stdin.isatty():
            raise ConfigError(
                f"no {what} is given and there is no terminal to ask on",
                hint="give --passphrase-file FILE or set MORAINE_PASSPHRASE_FILE",
            )
        import getpass

        secret = getpass.getpass(f"{what}: ")
        if not secret:
            raise ConfigError(f"the {what} is empty", hint="type one, or make a plain repository with --plain")
        return secret.encode("utf-8", "surrogateescape")


def _state_of(url: str) -> str:
    """The repository at an address; where a local mirror stands, the one inside it."""
    inside = f"{url.rstrip('/')}{STATE}"
    is_mirror = "://" not in url and os.path.isfile(f"{inside}/moraine.json")
    return inside if is_mirror and not os.path.exists(os.path.join(url, "moraine.json")) else url
