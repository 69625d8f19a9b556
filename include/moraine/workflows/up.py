"""`./moraine up`: Airflow with these DAGs on this machine, until Ctrl-C.

Owns what the terminal shows meanwhile: which service is ready, where to log in, how runs go. Imports no Airflow; it
asks the API server like any other client.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from moraine.errors import Cancelled, ConfigError, MoraineError
from moraine.workflows.airflow_home import USER, AirflowHome, setting
from moraine.workflows.demo import prepare_demo
from moraine.workflows.keep_up import keep_up, require_running, say_where, stopped_at_the_end
from moraine.workflows.services import Services, choose_port, end_left_over

_HEALTH = {
    "metadatabase": "database",
    "scheduler": "scheduler",
    "dag_processor": "dag processor",
    "triggerer": "triggerer",
}
_START = 180.0  # seconds until every service must be well
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Api:
    """The few questions this page asks of the API server."""

    def __init__(self, port: int, password: str) -> None:
        self._address = f"http://127.0.0.1:{port}"
        self._password = password
        self._token = ""

    def unwell(self) -> list[str] | None:
        """Services that are not well; None while the server itself does not answer."""
        try:
            health = self._ask("/api/v2/monitor/health")
        except (OSError, ValueError):
            return None
        return [name for key, name in _HEALTH.items() if (health.get(key) or {}).get("status") != "healthy"]

    def runs(self) -> list[dict[str, Any]]:
        """The newest runs of all DAGs, newest first; none while the server is too busy to say."""
        try:
            if not self._token:
                login = {"username": USER, "password": self._password}
                self._token = self._ask("/auth/token", login)["access_token"]
            found: list[dict[str, Any]] = self._ask("/api/v2/dags/~/dagRuns?order_by=-run_after&limit=20")["dag_runs"]
        except urllib.error.HTTPError as error:
            if error.code == 401:
                self._token = ""
            return []
        except (OSError, ValueError, KeyError):
            return []
        return found

    def _ask(self, path: str, body: dict[str, str] | None = None) -> Any:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(self._address + path, data, {**headers, "Content-Type": "application/json"})
        with _direct.open(request, timeout=5) as answer:
            return json.load(answer)


def run(port: int | None, settings: Mapping[str, str]) -> None:
    """Start, show, keep up, stop."""
    home = AirflowHome(settings=settings)
    home.make_folders()
    try:
        with home.lock("up", wait=False):
            chosen = choose_port(port)
            home.prepare(os.environ)
            _run(home, chosen)
    except BlockingIOError as error:
        where = (home.path / "up.txt").read_text() if (home.path / "up.txt").exists() else "another terminal"
        raise ConfigError(f"this Airflow is up already: {where}", hint="stop it there with Ctrl-C") from error


def _run(home: AirflowHome, port: int) -> None:
    record = home.path / "processes.json"
    for name in end_left_over(record):
        print(f"ended {name}, left over from a start that was killed", flush=True)
    prepare_demo(home.root)
    (home.path / "up.txt").write_text(f"http://localhost:{port}")
    services = Services(home.environment(os.environ, port=port), home.logs, record=record)
    api = Api(port, home.password)
    with stopped_at_the_end(services):
        print(f"starting Airflow on port {port}; logs are in {home.logs}", flush=True)
        services.start()
        wait_until_well(services, api)
        say_where(port, home.password)
        keep_up(services, _Runs(api).tell)


def wait_until_well(services: Services, api: Api) -> None:
    """Return when every service says it is well. Raises ConfigError when one ends, or takes too long."""
    deadline = time.monotonic() + _START
    missing: set[str] = {"api server", *_HEALTH.values()}
    while time.monotonic() < deadline:
        require_running(services)
        unwell = api.unwell()
        if unwell is not None:
            for name in sorted(missing - set(unwell)):
                print(f"  {name} is ready", flush=True)
            missing = set(unwell)
            if not missing:
                return
        time.sleep(0.5)
    raise ConfigError(f"not ready within {_START:.0f} s: {', '.join(sorted(missing))}", hint=f"see {services.logs}")


class _Runs:
    """Prints a line whenever a run starts or ends."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._seen = {run["dag_run_id"]: run["state"] for run in api.runs()}

    def tell(self) -> None:
        for run in reversed(self._api.runs()):
            if self._seen.get(run["dag_run_id"]) != run["state"]:
                self._seen[run["dag_run_id"]] = run["state"]
                print(f"{datetime.now():%H:%M:%S}  {run['dag_id']}  {run['state']}  {run['dag_run_id']}", flush=True)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Declare `--set`."""
    parser.add_argument(
        "--set", type=setting, action="append", default=[], metavar="SECTION.KEY=VALUE", help="a setting of Airflow"
    )


def main() -> int:
    """The command; 0 when it was asked to stop."""
    parser = argparse.ArgumentParser(prog="moraine up", description="Run Airflow with these DAGs until Ctrl-C.")
    parser.add_argument("--port", type=int, help="port of the web page (default: the first free one from 8080 on)")
    add_settings(parser)
    arguments = parser.parse_args()
    try:
        run(arguments.port, dict(arguments.set))
    except (Cancelled, KeyboardInterrupt):
        return 0
    except MoraineError as error:
        print(error.line(), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
