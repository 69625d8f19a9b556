"""The assets that other DAGs can wait for: an event for each snapshot of a policy, and for each drill that passed."""

from __future__ import annotations

from airflow.sdk import Asset

EVENT = ("snapshot", "window", "bytes", "added", "digest")  # what an event's extra holds, by the names of `commit`


def snapshot_asset(policy: str) -> Asset:
    """`snapshots of <policy>`: every commit is an event of it, with the facts named in `EVENT`."""
    # Airflow leaves x- schemes alone; for any other it loads every provider to find out who normalises it.
    return Asset(name=f"snapshots of {policy}", uri=f"x-moraine://policy/{policy}/snapshots", group="moraine")


def proven_asset(policy: str) -> Asset:
    """`proven snapshots of <policy>`; an event's extra names snapshot, drill, number of checks and report."""
    return Asset(name=f"proven snapshots of {policy}", uri=f"x-moraine://policy/{policy}/proven", group="moraine")
