"""The pools that tasks take slots from, and the metadata database they are rows of.

`python -m moraine.workflows.pools` brings the database up to date and makes the pools: what every deployment does
before its first start. A pool that exists keeps the number of slots its operator gave it.
"""

from __future__ import annotations

from moraine.model.record import dataclass


@dataclass(frozen=True, slots=True)
class Pool:
    """How many tasks of a kind may run at once, over all workers."""

    name: str
    slots: int
    description: str


READ = Pool("backup_read", 8, "Moraine: tasks that read a source (open, list, copy)")
WRITE = Pool("backup_write", 8, "Moraine: tasks that work on a repository alone (diff, verify, commit, prove …)")
RESTORE = Pool("restore", 8, "Moraine: restores")
POOLS = (READ, WRITE, RESTORE)

# Free slots of an executor go to the highest number first. Absolute: Airflow's own rule adds up what is downstream.
BACKUP_FIRST = {"priority_weight": 1, "weight_rule": "absolute"}
RESTORE_FIRST = {"priority_weight": 1000, "weight_rule": "absolute"}


def make_pools() -> list[str]:
    """Make the pools that are missing; their names."""
    from airflow.models.pool import Pool as Row
    from airflow.utils.session import create_session

    made = []
    with create_session() as session:
        for pool in POOLS:
            if Row.get_pool(pool.name, session=session) is None:
                Row.create_or_update_pool(pool.name, pool.slots, pool.description, False, session=session)
                made.append(pool.name)
    return made


def main() -> None:
    """Bring the database up to date, and make the pools."""
    from airflow.utils.db import upgradedb

    upgradedb()
    made = make_pools()
    print(f"pools made: {', '.join(made) or 'none, all are there'}")


if __name__ == "__main__":
    main()
