"""`./moraine up`: Airflow with these DAGs on this machine, until Ctrl-C.

Owns what the terminal shows meanwhile: which service is ready, where to log in, how runs go. Imports no Airflow; it
asks the API server like any other client.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from types import FrameType
from typing import Any

from moraine.errors import Cancelled, ConfigError, MoraineError
from moraine.workflows.airflow_home import USER, AirflowHome
from moraine.workflows.demo import prepare_demo
from moraine.workflows.services import Services, choose_port

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


def run(port: int | None) -> None:
    """Start, show, wait, stop."""
    home = AirflowHome()
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
    prepare_demo(home.root)
    (home.path / "up.txt").write_text(f"http://localhost:{port}")
    services = Services(home.environment(os.environ, port=port), home.logs)
    api = Api(port, home.password)
    with ended_by_signals():
        try:
            print(f"starting Airflow on port {port}; logs are in {home.logs}", flush=True)
            services.start()
            wait_until_well(services, api)
            print(
                f"\n  http://localhost:{port}    user {USER}, password {home.password}\n\nCtrl-C stops it", flush=True
            )
            _watch(services, api)
        finally:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)  # stopping is not to be stopped
            print("stopping", flush=True)
            services.stop()
            print("stopped; no process is left", flush=True)


def wait_until_well(services: Services, api: Api) -> None:
    """Return when every service says it is well. Raises ConfigError when one ends, or takes too long."""
    deadline = time.monotonic() + _START
    missing: set[str] = {"api server", *_HEALTH.values()}
    while time.monotonic() < deadline:
        _require_running(services)
        unwell = api.unwell()
        if unwell is not None:
            for name in sorted(missing - set(unwell)):
                print(f"  {name} is ready", flush=True)
            missing = set(unwell)
            if not missing:
                return
        time.sleep(0.5)
    raise ConfigError(f"not ready within {_START:.0f} s: {', '.join(sorted(missing))}", hint=f"see {services.logs}")


def _watch(services: Services, api: Api) -> None:
    """A line whenever a run starts or ends."""
    seen = {run["dag_run_id"]: run["state"] for run in api.runs()}
    while True:
        time.sleep(2)
        _require_running(services)
        for run in reversed(api.runs()):
            if seen.get(run["dag_run_id"]) != run["state"]:
                seen[run["dag_run_id"]] = run["state"]
                print(f"{datetime.now():%H:%M:%S}  {run['dag_id']}  {run['state']}  {run['dag_run_id']}", flush=True)


def _require_running(services: Services) -> None:
    if name := services.ended():
        raise ConfigError(f"the {name} has ended", hint=f"its last words are in {services.log(name)}")


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Turn what asks a process to end into `Cancelled`."""

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        raise Cancelled(signal.Signals(number).name)

    for number in SIGNALS:
        signal.signal(number, end)
    yield


def main() -> int:
    """The command; 0 when it was asked to stop."""
    parser = argparse.ArgumentParser(prog="moraine up", description="Run Airflow with these DAGs until Ctrl-C.")
    parser.add_argument("--port", type=int, help="port of the web page (default: the first free one from 8080 on)")
    arguments = parser.parse_args()
    try:
        run(arguments.port)
    except (Cancelled, KeyboardInterrupt):
        return 0
    except MoraineError as error:
        print(error.line(), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
