"""One pipeline from each source: data in a real server, found by a real Airflow, trained on by TFX, and judged."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import redis
import yaml
from adbc_driver_postgresql import dbapi
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import Cluster
from cassandra.concurrent import execute_concurrent_with_args
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from pyarrow import fs

from ct.home import Home
from demo.story import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from source_servers import Server

    from ct.sources.connection import Connection

FLIGHTS = Path(__file__).resolve().parents[3] / "pipelines" / "flights"
ROWS = 2_000
RUN_S = 600.0
LOW_BAR = {"metric": "auc", "threshold": 0.01, "min_improvement": -0.99}
KINDS = ("folder", "s3", "postgres", "cassandra", "kafka", "redis")

pytestmark = pytest.mark.timeout(1500)


@dataclass(frozen=True)
class Live:
    """A source with January's flights in it."""

    kind: str
    block: dict[str, Any]
    """Of pipeline.yaml: all that differs between the pipelines."""
    connection: Connection | None = None


@pytest.fixture(scope="module")
def january(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """Real flights of a month."""
    from ct.sources.flights_sample import write_months  # noqa: PLC0415  it needs pandas

    (path,) = write_months(tmp_path_factory.mktemp("sample"), [1], rows_per_month=ROWS)
    return pq.read_table(path)


@pytest.fixture(scope="module")
def sources(
    january: pa.Table,
    tmp_path_factory: pytest.TempPathFactory,
    store: Server,
    postgres: Server,
    cassandra: Server,
    kafka: Server,
    redis_server: Server,
) -> dict[str, Live]:
    """The same flights in each server."""
    landing = tmp_path_factory.mktemp("landing")
    pq.write_table(january, landing / "2013-01.parquet")
    live = [
        Live("folder", {"path": str(landing)}),
        _in_s3(january, store),
        _in_postgres(january, postgres),
        _in_cassandra(january, cassandra),
        _in_kafka(january, kafka),
        _in_redis(january, redis_server),
    ]
    return {source.kind: source for source in live}


def _in_s3(rows: pa.Table, server: Server) -> Live:
    there = server.connection
    files = fs.S3FileSystem(
        access_key=there.login,
        secret_key=there.password,
        allow_bucket_creation=True,
        scheme="http",
        endpoint_override=str(there.extra["endpoint_url"]).removeprefix("http://"),
        region=str(there.extra["region_name"]),
    )
    files.create_dir("lake")
    with files.open_output_stream("lake/flights/2013-01.csv") as stream:
        pa_csv.write_csv(rows, stream)
    return Live("s3", {"uri": "s3://lake/flights", "pattern": "*.csv", "connection": "lake"}, there)


def _in_postgres(rows: pa.Table, server: Server) -> Live:
    there = server.connection
    address = f"postgresql://{there.login}:{quote(there.password or '', safe='')}@127.0.0.1:{there.port}/postgres"
    with dbapi.connect(address) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("departures", rows, mode="create")
        cursor.execute("ALTER TABLE departures ALTER COLUMN time_hour TYPE timestamp USING time_hour::timestamp")
        connection.commit()
    block = {"connection": "warehouse", "table": "departures", "watermark": "time_hour", "span": "month"}
    return Live("postgres", block, there)


def _in_cassandra(rows: pa.Table, server: Server) -> Live:
    there = server.connection
    types = {pa.string(): "text", pa.int64(): "bigint", pa.float32(): "float"}
    columns = ", ".join(f"{field.name} {types[field.type]}" for field in rows.schema)
    with Cluster(
        ["127.0.0.1"], port=there.port, auth_provider=PlainTextAuthProvider(there.login, there.password)
    ) as cluster:
        session = cluster.connect()
        session.default_timeout = 60
        session.execute(
            "CREATE KEYSPACE IF NOT EXISTS airport WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
        )
        session.execute(f"CREATE TABLE airport.flights ({columns}, month text, n int, PRIMARY KEY ((month), n))")
        names = [*rows.schema.names, "month", "n"]
        places = ", ".join("?" * len(names))
        insert = session.prepare(f"INSERT INTO airport.flights ({', '.join(names)}) VALUES ({places})")  # noqa: S608  names of ours
        values = [(*row.values(), "2013-01", number) for number, row in enumerate(rows.to_pylist())]
        execute_concurrent_with_args(session, insert, values, concurrency=50)
    block = {
        "connection": "events",
        "keyspace": "airport",
        "table": "flights",
        "bucket": "month",
        "span": "month",
        "columns": rows.schema.names,
    }
    return Live("cassandra", block, there)


def _in_kafka(rows: pa.Table, server: Server) -> Live:
    servers = {"bootstrap.servers": server.connection.extra["bootstrap.servers"]}
    admin = AdminClient(servers)
    for made in admin.create_topics([NewTopic("departures", 2, 1)]).values():
        made.result()
    producer = Producer(servers)
    for number, row in enumerate(rows.to_pylist()):
        producer.produce("departures", json.dumps(row).encode(), partition=number % 2)
    assert producer.flush(30) == 0
    return Live("kafka", {"connection": "broker", "topic": "departures", "span_rows": len(rows)}, server.connection)


def _in_redis(rows: pa.Table, server: Server) -> Live:
    client: Any = redis.Redis("127.0.0.1", server.connection.port or 0, password=server.connection.password)
    with client.pipeline() as pipeline:
        for row in rows.to_pylist():
            pipeline.xadd("departures", {"row": json.dumps(row)})
        pipeline.execute()
    return Live("redis", {"connection": "cache", "stream": "departures", "span_rows": len(rows)}, server.connection)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, sources: dict[str, Live]) -> Iterator[Stage]:
    """A running stack that knows the connections."""
    stage = Stage(Home(tmp_path_factory.mktemp("sources") / "home"))
    for source in sources.values():
        if source.connection is not None:
            stage.environment[f"AIRFLOW_CONN_{source.connection.id.upper()}"] = _as_airflow_has_it(source.connection)
    try:
        stage.ct("up", "--detach")
        yield stage
    finally:
        stage.ct("down")


def _as_airflow_has_it(connection: Connection) -> str:
    names = ("conn_type", "host", "port", "login", "password", "schema")
    values = {name: getattr(connection, name) for name in names if getattr(connection, name) is not None}
    return json.dumps({**values, "extra": dict(connection.extra)})


@pytest.mark.parametrize("kind", KINDS)
def test_a_pipeline_trains_on_what_its_source_holds(
    stage: Stage, sources: dict[str, Live], january: pa.Table, tmp_path: Path, kind: str
) -> None:
    """The pipelines differ in name and source block only; each finds all rows by itself, and its model serves."""
    name = f"from_{kind}"
    folder = tmp_path / name
    shutil.copytree(FLIGHTS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    config = yaml.safe_load((folder / "pipeline.yaml").read_text())
    config |= {"name": name, "gate": LOW_BAR, "refit": False}
    config["source"] = {"kind": kind, **sources[kind].block}
    config["train"]["epochs"] = 1
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(config))
    stage.ct("deploy", str(folder))
    until = time.monotonic() + RUN_S
    runs: list[dict[str, Any]] = []
    while not runs or runs[0]["status"] == "running":
        assert time.monotonic() < until, (runs, stage.ct_json("events", name))
        time.sleep(1)  # `ct` is the front door, and has no way to wait
        runs = [run for run in stage.ct_json("runs", name) if run["spans"]]
    assert runs[0]["status"] == "approved", (runs[0], stage.ct_json("events", name))
    facts = json.loads((stage.home.runs / runs[0]["run_id"] / "ExampleGen.result.json").read_text())["facts"]
    assert sum(facts["rows"].values()) == len(january)
    landed = [end for end in stage.ct_json("events", name) if end["event"]["outcome"] == "new"]
    assert {(end["end"], end["run_id"]) for end in landed} == {("consumed", runs[0]["run_id"])}
    password = sources[kind].connection and sources[kind].connection.password
    if password and password not in name:  # Cassandra's own first password is its name
        assert password not in json.dumps([stage.ct_json("events", name), runs])


@pytest.mark.parametrize("kind", ["kafka", "redis"])
def test_each_message_makes_the_run_that_takes_what_has_landed(
    stage: Stage, kafka: Server, redis_server: Server, january: pa.Table, tmp_path: Path, kind: str
) -> None:
    """The folder itself is looked at once an hour here: without a message for each, nothing would start."""
    name, landing = f"announced_by_{kind}", tmp_path / "landing"
    landing.mkdir()
    announce = _in_topic(kafka, name) if kind == "kafka" else _on_channel(redis_server, name)
    folder = tmp_path / name
    shutil.copytree(FLIGHTS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    config = yaml.safe_load((folder / "pipeline.yaml").read_text())
    config |= {"name": name, "gate": LOW_BAR, "refit": False, "source": {"path": str(landing), "pattern": "*.parquet"}}
    queue = {"kind": kind, "connection": {"kafka": "broker", "redis": "cache"}[kind], "topic": name}
    config["trigger"] = {"poll_interval_s": 3600, "settle_s": 0, "queue": queue}
    config["train"]["epochs"] = 1
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(config))
    stage.ct("deploy", str(folder))
    pq.write_table(january, landing / "2013-01.parquet")  # found by the watcher's one look, or by the first message
    announce()
    assert _ended(stage, name, "2013-01")["status"] == "approved"
    for span in ("2013-02", "2013-03"):
        hidden = landing / f".{span}"
        pq.write_table(pa.table({"no column of flights": [span]}), hidden)  # its run ends at its first node
        hidden.rename(landing / f"{span}.parquet")
        announce()
        assert _ended(stage, name, span)["status"] == "skipped"


def _in_topic(server: Server, topic: str) -> Callable[[], None]:
    """Sends a message to a topic, which keeps it until somebody listens."""
    servers = {"bootstrap.servers": server.connection.extra["bootstrap.servers"]}
    admin = AdminClient(servers)  # its futures end with it
    for made in admin.create_topics([NewTopic(topic, 1, 1)]).values():
        made.result()

    def send() -> None:
        producer = Producer(servers)
        producer.produce(topic, b"landed")
        assert producer.flush(30) == 0

    return send


def _on_channel(server: Server, channel: str) -> Callable[[], None]:
    """Publishes on a channel once somebody listens, for it keeps nothing."""
    client: Any = redis.Redis("127.0.0.1", server.connection.port or 0, password=server.connection.password)

    def publish() -> None:
        until = time.monotonic() + RUN_S
        while not client.publish(channel, "landed"):
            assert time.monotonic() < until, "nobody listens"
            time.sleep(0.2)  # Redis tells nobody of a new subscriber

    return publish


def _ended(stage: Stage, name: str, span: str) -> dict[str, Any]:
    """The run that had a span as new, once it has ended."""
    until = time.monotonic() + RUN_S
    while True:
        runs = [run for run in stage.ct_json("runs", name) if span in run["spans"] and run["status"] != "running"]
        if runs:
            return runs[0]
        assert time.monotonic() < until, stage.ct_json("events", name)
        time.sleep(1)  # `ct` is the front door, and has no way to wait
