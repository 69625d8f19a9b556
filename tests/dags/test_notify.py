"""A run that fails, and the mail that says so; a real SMTP conversation."""

from __future__ import annotations

import email
import json
import os
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs
from uuid import uuid4

import pytest
import structlog
import yaml
from airflow.callbacks.callback_requests import DagCallbackRequest
from airflow.dag_processing.manager import DagFileProcessorManager
from airflow.dag_processing.processor import DagFileProcessorProcess
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session

from airflow_runs import run
from drilling import Lake
from moraine.errors import ConfigError, ProofFailed
from moraine.workflows.backup import build_backup_dag
from moraine.workflows.connections import open_repository
from moraine.workflows.drill import build_drill_dag
from moraine.workflows.policies import find_policy, read_policies
from night import PASSPHRASE

ROOT = Path(__file__).resolve().parents[2]


class Postbox(socketserver.StreamRequestHandler):
    """Takes every mail."""

    def handle(self) -> None:
        self.say("220 here")
        while line := self.rfile.readline().decode().strip():
            word = line.split()[0].upper()
            if word == "DATA":
                self.say("354 go on")
                lines = iter(self.rfile.readline, b".\r\n")
                self.server.mails.append(email.message_from_bytes(b"".join(lines)))  # type: ignore[attr-defined]
            self.say("221 bye" if word == "QUIT" else "250 ok")
            if word == "QUIT":
                return

    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


@pytest.fixture
def mails(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[email.message.Message]]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Postbox) as server:
        server.mails = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        host, port = server.server_address[:2]
        extra = {"disable_ssl": True, "disable_tls": True, "from_email": "airflow@example.org"}
        connection = {"conn_type": "smtp", "host": host, "port": port, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
        yield server.mails  # type: ignore[attr-defined]
        server.shutdown()


def write(policies: Path, **parts: object) -> None:
    policy = {"policy": "lost", "source": {"path": "/nowhere/<b>"}, "repository": {"url": "/nowhere/<b>"}, **parts}
    (policies / "lost.yaml").write_text(yaml.safe_dump(policy))


def test_a_failed_run_is_told_once_by_mail(policies: Path, mails: list[email.message.Message]) -> None:
    write(policies, notify=[{"email": ["night@example.org", "day@example.org"]}])
    failed = run(build_backup_dag(find_policy("lost")))
    assert str(failed.state) == "failed"
    assert mails == []  # dag.test() has no DAG processor
    call_back(failed)
    (mail,) = mails
    assert mail["Subject"] == "Backup of lost has failed"
    assert mail["To"] == "night@example.org, day@example.org"
    (part,) = (part for part in mail.walk() if part.get_content_type() == "text/html")
    text = part.get_payload(decode=True).decode()
    assert f"run <code>{failed.run_id}</code>" in text.replace("&#43;", "+")
    assert "/dags/backup__lost/runs/" in text
    assert "{{" not in text and "{%" not in text
    assert "<b>open</b>: <code>not-a-repository</code>: /nowhere/&lt;b&gt; is no Moraine repository" in text
    assert "What to do: `moraine repo init /nowhere/&lt;b&gt;` makes one" in text


def test_a_failed_drill_is_told_with_its_reason_and_what_to_do(
    policies: Path, tmp_path: Path, mails: list[email.message.Message]
) -> None:
    open_repository.cache_clear()
    lake = Lake(tmp_path, now=datetime.now(UTC) - timedelta(days=3))
    lake.night()
    for key in lake.packs():
        lake.damage(key)
    (tmp_path / "pass").write_bytes(PASSPHRASE)
    policy = {
        "policy": "lake",
        "source": {"path": str(lake.source)},
        "repository": {"url": str(lake.repository_path), "passphrase_file": str(tmp_path / "pass")},
        "notify": [{"email": ["night@example.org"]}],
        "drill": {"restore": "whole", "place": {"path": str(lake.place)}},
    }
    (policies / "lake.yaml").write_text(yaml.safe_dump(policy))
    call_back(run(build_drill_dag(find_policy("lake"))), "drill.py")
    (mail,) = mails
    assert mail["Subject"] == "Drill of lake has failed"
    (part,) = (part for part in mail.walk() if part.get_content_type() == "text/html")
    text = part.get_payload(decode=True).decode()
    assert "<p>The restore drill of policy <b>lake</b> has failed" in text and "/dags/drill__lake/runs/" in text
    assert f"<b>report</b>: <code>{ProofFailed.code}</code>: the drill of snapshot" in text
    assert "What to do: the snapshot is in quarantine; `moraine drill --show" in text


def test_another_notifier_is_told_the_error_over_http(policies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {
        "aws_conn_id": "pager",
        "target_arn": "arn:aws:sns:us-east-1:123456789012:nights",
        "message": "{{ ti.xcom_pull(key='error').code }}, {{ ti.xcom_pull(key='error').hint }}",
        "subject": "{{ dag.dag_id }}",
    }
    sns = "airflow.providers.amazon.aws.notifications.sns.SnsNotifier"
    write(policies, notify=[{"notifier": sns, "arguments": arguments}])
    dag = build_backup_dag(find_policy("lost"))
    assert not any(task.on_failure_callback for task in dag.tasks)  # once for a run, not for each task of it
    with pager() as (address, calls):
        extra = {"endpoint_url": address, "region_name": "us-east-1"}
        connection = {"conn_type": "aws", "login": "key", "password": "secret", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_PAGER", json.dumps(connection))
        call_back(run(dag))
    (call,) = calls
    assert call["Subject"] == ["backup__lost"]
    assert json.loads(call["Message"][0])["default"] == ("not-a-repository, `moraine repo init /nowhere/<b>` makes one")


@contextmanager
def pager() -> Iterator[tuple[str, list[dict[str, list[str]]]]]:
    """Takes what is sent to a topic of SNS."""
    calls: list[dict[str, list[str]]] = []
    answer = b"<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>"

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            calls.append(parse_qs(self.rfile.read(int(self.headers["content-length"])).decode()))
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", calls
        server.shutdown()


def call_back(failed: DagRun, file: str = "backup.py") -> None:
    """What scheduler and DAG processor do about a failed run; the processor in a process of its own, as ever."""
    with create_session() as session:
        row = session.merge(failed)
        ti = max(
            (ti for ti in row.get_task_instances(session=session) if ti.state == "failed"), key=lambda ti: ti.end_date
        )
        made = row.produce_dag_callback(dag=None, success=False, relevant_ti=ti, reason="task_failure")
        request = DagCallbackRequest.model_validate_json(made.model_dump_json())
    with open(os.devnull, "wb") as log:
        process = DagFileProcessorProcess.start(
            id=uuid4(),
            path=ROOT / "dags" / file,
            bundle_path=ROOT / "dags",
            bundle_name="dags-folder",
            dag_file_rel_path=file,
            callbacks=[request],
            logger=structlog.get_logger(),
            logger_filehandle=log,
            client=DagFileProcessorManager(max_runs=1).client,
        )
        while not process.is_ready:
            process._service_subprocess(0.1)


@pytest.mark.parametrize(
    ("notify", "reason"),
    [
        ({"notifier": "airflow.providers.nobody.notifications.x.NobodyNotifier"}, "not installed"),
        ({"notifier": "airflow.providers.smtp.notifications.smtp.SmtpNotifier"}, "refuses its arguments"),
        ({"notifier": "os.SystemNotifier"}, "notifier"),
        ({"notifier": "airflow.providers.smtp.notifications.smtp.SmtpNotifier", "email": ["a@b"]}, "either"),
        ({"email": ["{{ secrets }}@example.org"]}, "email"),
    ],
)
def test_what_could_not_tell_is_a_broken_policy_at_once(policies: Path, notify: object, reason: str) -> None:
    write(policies, notify=[notify])
    (policies / "well.yaml").write_text("policy: well\nsource: {path: /x}\nrepository: {url: /y}\n")
    assert [policy.policy for policy in read_policies()[0]] == ["well"]
    with pytest.raises(ConfigError, match=reason):
        find_policy("lost")


def test_another_notifier_is_made_with_its_arguments(policies: Path) -> None:
    smtp = "airflow.providers.smtp.notifications.smtp.SmtpNotifier"
    write(policies, notify=[{"notifier": smtp, "arguments": {"to": "a@example.org", "subject": "no"}}])
    (made,) = build_backup_dag(find_policy("lost")).on_failure_callback
    assert (made.to, made.subject) == ("a@example.org", "no")
    assert f"Told: {smtp}." in find_policy("lost").explain()
