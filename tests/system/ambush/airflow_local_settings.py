"""What lies in wait for tasks. Airflow loads this file from its home in every process; tests put orders beside it.

An order is a JSON file in the folder MORAINE_AMBUSH: which try of which task, at which point, and what happens there.
It is obeyed inside the task's own process, so that a kill hits the step and not its surroundings. Each order names:

dag, task, part (map index, default any), tries (default [1])
at:    begin or end of the step, or a verb of the store (put, get, list, delete)
keys:  of that verb, a glob; skip: so many of them first; after: the call takes effect before it happens
do:    kill, freeze (with the supervising process), balloon, wait (until the order is deleted),
       or a fault of the fault store (unavailable, denied, full …)
days:  instead of all that: Moraine's clock is so many days behind
"""

from __future__ import annotations

import functools
import json
import os
import resource
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path

FOLDER = Path(os.environ["MORAINE_AMBUSH"])


def task_policy(task):
    """Wait less between tries, and lay the ambush. Called by Airflow for every task of a DAG that is parsed."""
    task.retry_delay = timedelta(seconds=float(os.environ.get("MORAINE_RETRY_DELAY", "1")))
    options = getattr(task, "partial_kwargs", None)
    if options is not None and "python_callable" in options:
        options["python_callable"] = _ambushed(options["python_callable"])
    elif hasattr(task, "python_callable"):
        task.python_callable = _ambushed(task.python_callable)


def _ambushed(step):
    if getattr(step, "ambushed", False):
        return step

    @functools.wraps(step)
    def walk(*args, **kwargs):
        orders = _orders()
        _install(orders)
        _meet(orders, "begin")
        result = step(*args, **kwargs)
        _meet(orders, "end")
        return result

    walk.ambushed = True
    return walk


def _orders():
    from airflow.sdk import get_current_context

    task = get_current_context()["ti"]
    found = []
    for file in sorted(FOLDER.glob("*.json")):
        order = json.loads(file.read_text()) | {"file": file}
        here = (order["dag"], order.get("task", task.task_id), order.get("part", task.map_index))
        if here == (task.dag_id, task.task_id, task.map_index) and task.try_number in order.get("tries", [1]):
            found.append(order)
    return found


def _install(orders):
    from moraine.stores.fault import Effect, Fault, FaultStore
    from moraine.workflows import backup_tasks, connections, task_context

    class Ambush(FaultStore):
        def _call(self, verb, key, call):
            def taken():
                result = call()
                _meet(orders, verb, key, after=True)
                return result

            _meet(orders, verb, key, after=False)
            return super()._call(verb, key, taken)

    effects = {effect.value: effect for effect in Effect}
    faults = [
        Fault(effects[order["do"]], order["at"], order.get("keys", "*"), order.get("times"), order.get("skip", 0))
        for order in orders
        if order.get("do") in effects
    ]
    real = connections.open_store
    connections.open_store = lambda *args, **kwargs: Ambush(real(*args, **kwargs), faults)
    behind = timedelta(days=sum(order.get("days", 0) for order in orders))
    task_context.now = backup_tasks.now = lambda: datetime.now(UTC) - behind


def _meet(orders, point, key="", after=False):
    for order in orders:
        here = (order.get("at"), order.get("after", False))
        if here != (point, after) or not hasattr(_Deeds, order.get("do", "")):
            continue
        if fnmatchcase(key, order.get("keys", "*")):
            order["skip"] = order.get("skip", 0) - 1
            if order["skip"] == -1:
                print(f"ambush: {order['do']} at {point} {key}", flush=True)
                sys.stdout.flush()
                order["file"].with_suffix(f".met-{os.getpid()}-{os.getppid()}").touch()
                getattr(_Deeds, order["do"])(order)


class _Deeds:
    @staticmethod
    def kill(order):
        os.kill(os.getpid(), signal.SIGKILL)

    @staticmethod
    def freeze(order):
        os.kill(os.getppid(), signal.SIGSTOP)  # it would go on telling Airflow that all is well
        os.kill(os.getpid(), signal.SIGSTOP)

    @staticmethod
    def wait(order):
        while order["file"].exists():
            time.sleep(0.1)

    @staticmethod
    def balloon(order):
        """Eat memory until there is no more, within what this process has now and 256 MiB."""
        now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (now + (256 << 20), -1))
        eaten = []
        while True:
            eaten.append(bytearray(16 << 20))
