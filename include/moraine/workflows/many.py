"""`./moraine many`: what docker-compose.yaml starts, without containers, until Ctrl-C.

PostgreSQL and Redis from the system's packages, Airflow's services, and several Celery workers. A service that ends of
itself is started again, as `restart: always` does it there.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable

from moraine.errors import Cancelled, ConfigError, MoraineError
from moraine.workflows.airflow_home import USER
from moraine.workflows.databases import PostgreSQL, Redis
from moraine.workflows.demo import prepare_demo
from moraine.workflows.many_home import ManyHome, commands
from moraine.workflows.services import Services, choose_port, end_left_over
from moraine.workflows.up import SIGNALS, Api, ended_by_signals, wait_until_well

_BASES = 60.0  # seconds until PostgreSQL and Redis must answer
_WORKERS = 120.0
_BREATH = 5.0  # seconds before an ended service is started again


def run(port: int | None, workers: int, settings: dict[str, str]) -> None:
    """Start, show, keep up, stop."""
    ports = choose_port(None, 15432), choose_port(None, 16379)
    home = ManyHome(postgres_port=ports[0], redis_port=ports[1], settings=settings)
    home.make_folders()
    try:
        with home.lock("many", wait=False):
            home.keep_secrets()
            _run(home, choose_port(port), workers)
    except BlockingIOError as error:
        raise ConfigError("several workers are up already", hint="stop them in the other terminal") from error


def _run(home: ManyHome, port: int, workers: int) -> None:
    postgres, redis = PostgreSQL.of(home.path, home.postgres_port), Redis.of(home.path, home.redis_port)
    record = home.path / "processes.json"
    for name in end_left_over(record):
        print(f"ended {name}, left over from a start that was killed", flush=True)
    prepare_demo(home.root)
    bases = {"postgres": postgres.command(), "redis": redis.command()}
    services = Services(home.environment(os.environ, port=port), home.logs, bases, record)
    with ended_by_signals():
        try:
            print(f"starting PostgreSQL and Redis; logs are in {home.logs}", flush=True)
            postgres.prepare(home.password, home.logs / "postgres.log")
            redis.prepare(home.password)
            services.start()
            _await(services, {"PostgreSQL": postgres.ready, "Redis": redis.ready}, _BASES)
            print("bringing the metadata database up to date", flush=True)
            home.prepare(os.environ)
            services.commands = {**bases, **commands(home.path, workers)}
            _start_airflow(services, Api(port, home.password), workers)
            print(
                f"\n  http://localhost:{port}    user {USER}, password {home.password}\n\nCtrl-C stops it", flush=True
            )
            _keep_up(services)
        finally:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)  # stopping is not to be stopped
            print("stopping", flush=True)
            services.stop()
            print("stopped; no process is left", flush=True)


def _start_airflow(services: Services, api: Api, workers: int) -> None:
    names = [f"worker-{number}" for number in range(1, workers + 1)]
    for name in names:
        services.log(name).write_text("")  # only what this start says counts
    services.start()
    wait_until_well(services, api)
    _await(services, {name: _says_ready(services, name) for name in names}, _WORKERS)


def _says_ready(services: Services, worker: str) -> Callable[[], bool]:
    """Celery's own words; asking through the broker would cost a process each time."""
    return lambda: f"{worker}@" in (text := services.log(worker).read_text(errors="replace")) and " ready." in text


def _await(services: Services, wanted: dict[str, Callable[[], bool]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    missing = dict(wanted)
    while missing:
        if name := services.ended():
            raise ConfigError(f"the {name} has ended", hint=f"its last words are in {services.log(name)}")
        for name in [name for name, ready in missing.items() if ready()]:
            print(f"  {name} is ready", flush=True)
            del missing[name]
        if missing and time.monotonic() > deadline:
            raise ConfigError(f"not ready within {seconds:.0f} s: {', '.join(missing)}", hint=f"see {services.logs}")
        time.sleep(0.2)


def _keep_up(services: Services) -> None:
    while True:
        time.sleep(1)
        name = services.ended()
        if name is None:
            continue
        if services.commands[name].base:
            raise ConfigError(f"the {name} has ended", hint=f"its last words are in {services.log(name)}")
        print(f"the {name} has ended; starting it again", flush=True)
        time.sleep(_BREATH)
        services.start_one(name)


def _setting(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def main() -> int:
    """The command; 0 when it was asked to stop."""
    parser = argparse.ArgumentParser(
        prog="moraine many",
        description="Run Airflow with PostgreSQL, Redis and several Celery workers until Ctrl-C.",
        epilog="PostgreSQL and Redis come from the system: apt install postgresql redis-server",
    )
    parser.add_argument("--port", type=int, help="port of the web page (default: the first free one from 8080 on)")
    parser.add_argument("--workers", type=int, default=2, choices=range(1, 17), metavar="N", help="default: 2")
    parser.add_argument(
        "--set", type=_setting, action="append", default=[], metavar="SECTION.KEY=VALUE", help="a setting of Airflow"
    )
    arguments = parser.parse_args()
    try:
        run(arguments.port, arguments.workers, dict(arguments.set))
    except (Cancelled, KeyboardInterrupt):
        return 0
    except MoraineError as error:
        print(error.line(), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
