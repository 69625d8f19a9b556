"""What `docker compose --profile demo` needs: a data lake, a bucket, a repository in it, the Airflow connection.

`python -m moraine.workflows.demo_seed` makes what is missing, as often as it is run. Its settings are the DEMO_*
variables of docker-compose.yaml; nothing else reads them.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from moraine.errors import AlreadyARepository, MoraineError
from moraine.workflows.task_context import now

CONNECTION = "demo_store"
_REGION = "us-east-1"


def seed(environ: Mapping[str, str]) -> list[str]:
    """Make what is missing; what was made, in words."""
    made = []
    lake = Path(environ["DEMO_LAKE"])
    if not lake.exists():
        from moraine.demo.lake import make_lake

        make_lake(lake)
        made.append(f"data lake {lake}")
    if _make_repository(environ):
        made.append(f"repository {environ['DEMO_STORE_URL']}")
    _set_connection(environ)
    return made


def _make_repository(environ: Mapping[str, str]) -> bool:
    import boto3

    from moraine.steps.init import init_repository
    from moraine.stores.open import open_store

    url, endpoint = environ["DEMO_STORE_URL"], environ["DEMO_STORE_ENDPOINT"]
    session = boto3.Session(environ["DEMO_STORE_KEY"], environ["DEMO_STORE_SECRET"], region_name=_REGION)
    client: Any = session.client("s3", endpoint_url=endpoint)
    bucket = urlsplit(url).netloc
    if bucket not in [found["Name"] for found in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=bucket)
    store = open_store(url, endpoint_url=endpoint, session=session)
    try:
        init_repository(store, lambda: environ["DEMO_PASSPHRASE"].encode(), clock=now, entropy=os.urandom)
    except AlreadyARepository:
        return False
    return True


def _set_connection(environ: Mapping[str, str]) -> None:
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    extra = {
        "endpoint_url": environ["DEMO_STORE_ENDPOINT"],
        "region_name": _REGION,
        "passphrase": environ["DEMO_PASSPHRASE"],
    }
    row = Connection(
        CONNECTION,
        conn_type="aws",
        login=environ["DEMO_STORE_KEY"],
        password=environ["DEMO_STORE_SECRET"],
        extra=json.dumps(extra),
    )
    with create_session() as session:
        session.execute(delete(Connection).where(Connection.conn_id == CONNECTION))
        session.add(row)


def main() -> int:
    """The command."""
    try:
        made = seed(os.environ)
    except MoraineError as error:
        print(error.line(), file=sys.stderr)
        return error.exit_code
    print("\n".join(made) or "everything is there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
