"""A drill DAG run in a process of its own, which a task may be told to kill: `killed_drill.py POLICY [TASK]`."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from moraine.workflows import drill_tasks
from moraine.workflows.drill import build_drill_dag
from moraine.workflows.policies import find_policy


def kill_within(task: str) -> None:
    """The task does its work, then the process dies before anybody is told."""
    step = getattr(drill_tasks, task)

    def dying(*args: Any, **kwargs: Any) -> Any:
        step(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    dying.__name__ = task
    dying.__wrapped__ = step  # type: ignore[attr-defined]
    setattr(drill_tasks, task, dying)


def main() -> None:
    policy, *killed = sys.argv[1:]
    for task in killed:
        kill_within(task)
    dag = build_drill_dag(find_policy(policy))
    for each in dag.tasks:
        each.retry_delay = 0.01
    run = dag.test()
    print("ended:", run.state)


if __name__ == "__main__":
    main()
