"""`./moraine many`: what docker-compose.yaml starts, without containers, until Ctrl-C.

PostgreSQL and Redis from the system's packages, Airflow's services, and several Celery workers. A service that ends of
itself is started again, as `restart: always` does it there.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable

from moraine.errors import Cancelled, ConfigError, MoraineError
from moraine.workflows.databases import PostgreSQL, Redis
from moraine.workflows.demo import prepare_demo
from moraine.workflows.keep_up import keep_up, require_running, say_where, stopped_at_the_end
from moraine.workflows.many_home import ManyHome, commands
from moraine.workflows.services import Services, choose_port, end_left_over
from moraine.workflows.up import Api, add_settings, wait_until_well

_BASES = 60.0  # seconds until PostgreSQL and Redis must answer
_WORKERS = 120.0


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
    with stopped_at_the_end(services):
        print(f"starting PostgreSQL and Redis; logs are in {home.logs}", flush=True)
        postgres.prepare(home.password, home.logs / "postgres.log")
        redis.prepare(home.password)
        services.start()
        _await(services, {"PostgreSQL": postgres.ready, "Redis": redis.ready}, _BASES)
        print("bringing the metadata database up to date", flush=True)
        home.prepare(os.environ)
        services.commands = {**bases, **commands(home.path, workers)}
        _start_airflow(services, Api(port, home.password), workers)
        say_where(port, home.password)
        keep_up(services)


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
        require_running(services)
        for name in [name for name, ready in missing.items() if ready()]:
            print(f"  {name} is ready", flush=True)
            del missing[name]
        if missing and time.monotonic() > deadline:
            raise ConfigError(f"not ready within {seconds:.0f} s: {', '.join(missing)}", hint=f"see {services.logs}")
        time.sleep(0.2)


def main() -> int:
    """The command; 0 when it was asked to stop."""
    parser = argparse.ArgumentParser(
        prog="moraine many",
        description="Run Airflow with PostgreSQL, Redis and several Celery workers until Ctrl-C.",
        epilog="PostgreSQL and Redis come from the system: apt install postgresql redis-server",
    )
    parser.add_argument("--port", type=int, help="port of the web page (default: the first free one from 8080 on)")
    parser.add_argument("--workers", type=int, default=2, choices=range(1, 17), metavar="N", help="default: 2")
    add_settings(parser)
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
