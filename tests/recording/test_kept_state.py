"""Damage to what is kept: it is set aside with one warning that names it, asked again, and never blocks a start."""

import asyncio
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.orchestration.store import PrefectStore
from tasks.recording.rows import are_rows
from tasks.simulator import Simulator
from tasks.storage.records import records_of
from tests.asking import JsonStore, asking, pages
from tests.orchestration.test_store import RECORD, row
from tests.runs import draw, end, logged, rows, start
from tests.s3 import S3Server

KEY, OTHER = "answers/ab/cd", "answers/ab/ef"

Damage = Callable[[bytes], bytes]
DAMAGES: dict[str, Damage] = {
    "a digit of the price": lambda data: data.replace(b"0.000123", b"0.000923"),
    "a letter of the answer": lambda data: data.replace(b"12,50", b"72,50"),
    "a digit of the checksum": lambda data: data[:12] + bytes([data[12] ^ 1]) + data[13:],
    "the key of the checksum": lambda data: data.replace(b"blake2b", b"blake2c"),
    "cut off": lambda data: data[:-40],
    "empty": lambda _: b"",
    "zeros": lambda data: bytes(len(data)),
    "no UTF-8": lambda data: data[:200] + b"\xff\xfe" + data[202:],
    "something after it": lambda data: data + b" ",
}


@pytest.fixture
def store(home: Path) -> PrefectStore:
    return PrefectStore(records_of("/anywhere/out"))


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_answer_is_set_aside_with_one_warning_and_is_missing(
    home: Path, store: PrefectStore, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    asyncio.run(store.put(KEY, RECORD))
    path = home / "results" / KEY
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert path.read_bytes() != whole
    assert asyncio.run(store.get(KEY)) is None
    (warning,) = logged(caplog)
    aside = home / "damaged" / KEY
    assert f"{path} is damaged" in warning and f"It was moved to {aside}." in warning
    assert aside.read_bytes() == damage(whole) and not path.exists()
    caplog.clear()
    assert asyncio.run(store.get(KEY)) is None
    asyncio.run(store.put(KEY, RECORD))
    assert asyncio.run(store.get(KEY)) == RECORD and logged(caplog) == []


def test_what_was_set_aside_before_is_not_written_over(home: Path, store: PrefectStore) -> None:
    for damaged in (b"one", b"two"):
        asyncio.run(store.put(KEY, RECORD))
        (home / "results" / KEY).write_bytes(damaged)
        assert asyncio.run(store.get(KEY)) is None
    assert {path.read_bytes() for path in (home / "damaged").rglob("*") if path.is_file()} == {b"one", b"two"}


def test_an_answer_under_another_pictures_name_is_damaged(home: Path, store: PrefectStore) -> None:
    asyncio.run(store.put(KEY, RECORD))
    (home / "results" / KEY).rename(home / "results" / "answers" / "ab" / "ef")
    assert asyncio.run(store.get("answers/ab/ef")) is None


def test_a_record_that_names_another_serializer_is_not_loaded(home: Path, store: PrefectStore) -> None:
    asyncio.run(store.put(KEY, RECORD))
    path = home / "results" / KEY
    old = json.loads(path.read_bytes())
    del old["blake2b"]
    old["metadata"]["serializer"] = {"type": "pickle"}
    path.write_text(json.dumps(old, separators=(",", ":")))
    assert asyncio.run(store.get(KEY)) is None


def test_a_damaged_answer_on_s3_is_set_aside_there(
    home: Path, s3_server: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    store = PrefectStore(records_of(f"s3://{s3_server.bucket}/damaged"))
    asyncio.run(store.put(KEY, RECORD))
    asyncio.run(store.put(OTHER, RECORD))
    store.sync()
    client = s3_server.client()

    def names() -> list[str]:
        listed = client.list_objects_v2(Bucket=s3_server.bucket, Prefix="damaged/")["Contents"]
        return [entry["Key"].removeprefix("damaged/.visionflow/") for entry in listed]

    (pack,) = names()
    body = client.get_object(Bucket=s3_server.bucket, Key=f"damaged/.visionflow/{pack}")["Body"].read()
    broken = body.replace(b"12,50", b"72,50", 1)
    client.put_object(Bucket=s3_server.bucket, Key=f"damaged/.visionflow/{pack}", Body=broken)
    again = PrefectStore(records_of(f"s3://{s3_server.bucket}/damaged"))
    assert asyncio.run(again.get(KEY)) is None
    assert f"It was moved to s3://{s3_server.bucket}/damaged/.visionflow/damaged/{KEY}." in caplog.text
    damaged, left = names()
    assert (damaged, left[:6]) == (f"damaged/{KEY}", "packs/")
    for store in (again, PrefectStore(records_of(f"s3://{s3_server.bucket}/damaged"))):
        assert asyncio.run(store.get(KEY)) is None
        assert asyncio.run(store.get(OTHER)) == RECORD, "its neighbour in the pack"
    assert caplog.text.count("is damaged") == 1


@pytest.mark.parametrize(
    "value",
    [
        {},
        [1],
        [{}],
        [row("a") | {"image": None}],
        [{name: value for name, value in row("a").items() if name != "kept_usd"}],
        [row("a", cost_usd="0.1.2")],
        [row("a", cost_usd="NaN")],
        [row("a", cost_usd="1e20")],
        [row("a", status="fine")],
        [row("a", source_modified="yesterday")],
        [row("a", input_tokens=2**63)],
        [row("a", sent_width=2**31)],
        [row("a", input_tokens=True)],
        [row("a", answer=["x"])],
        [row("a", something=1)],
    ],
    ids=str,
)
def test_what_is_not_rows_is_known(value: object, home: Path, store: PrefectStore) -> None:
    """Also without a checksum, as the first release wrote them."""
    assert are_rows([row("a")]) and not are_rows(value)
    record = {"metadata": {"serializer": {"type": "json"}}, "result": json.dumps(value)}
    path = home / "results" / "batches" / "q" / "one"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record, separators=(",", ":")))
    store.keep_finished("batches/q/two", [row("b")], whole=True)
    assert list(store.finished("batches/q")) == [[row("b")]]
    assert (home / "damaged" / "batches" / "q" / "one").exists()


def test_an_answer_of_the_first_release_that_is_none_is_asked_again(simulator: Simulator, tmp_path: Path) -> None:
    store = JsonStore(tmp_path / "kept")
    with asking(simulator.url, tmp_path, store) as asked:
        asked.ask(pages(2), attempts=1)
    for path in (tmp_path / "kept").rglob("*"):
        if path.is_file():
            path.write_text(path.read_text().replace('"cost_usd": "', '"cost_usd": "x'))
    with asking(simulator.url, tmp_path, store, run_id="later") as again:
        outcomes = again.ask(pages(2), attempts=1)
    assert [(outcome.status, outcome.cached) for outcome in outcomes] == [("ok", False)] * 2
    assert len(list((tmp_path / "kept").rglob("*.it-is-no-answer"))) == 2


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.all
def test_a_run_over_damaged_records_warns_and_asks_again_for_those_alone(
    simulator: Simulator, home: Path, tmp_path: Path
) -> None:
    command = ["run", draw(tmp_path / "images", 6), "--output", tmp_path / "out", "--json", "--name", "job"]
    assert end(start(*command)).status == 0
    batches = sorted(path for path in (home / "results" / "batches").rglob("*") if path.is_file())
    batches[0].write_bytes(b"{}")
    batches[1].write_bytes(batches[1].read_bytes()[:-1] + b"\xff")
    answers = {json.loads(json.loads(path.read_bytes())["result"])["image"]: path for path in _answers(home)}
    lost = json.loads(json.loads(batches[2].read_bytes())["result"])[0]
    batches[2].unlink()
    damaged = answers[lost["image"]]
    damaged.write_bytes(damaged.read_bytes().replace(b"cost_usd", b"cost_uzd"))
    again = end(start(*command))
    assert (again.status, again.summary["ok"], again.summary["calls"]) == (0, 6, 1)
    for path in (*batches[:2], damaged):
        assert again.err.count(f"{path} is damaged") == 1
    assert "Traceback" not in again.err
    assert set(rows(again.summary)["status"]) == {"ok"}
    last = end(start(*command))
    assert (last.status, last.summary["calls"]) == (0, 0) and "is damaged" not in last.err


@pytest.mark.usefixtures("prefect_server")
def test_whatever_lies_under_visionflow_home_is_the_users_alone(
    simulator: Simulator, home: Path, prefect_home: Path, tmp_path: Path
) -> None:
    """The umask of this process takes nothing away, and our own Prefect server is started as well."""
    images = draw(tmp_path / "images", 3)
    environment = {"PREFECT_API_URL": None, "PREFECT_HOME": prefect_home, "VISIONFLOW_KEEP_SERVER": "0"}
    before = os.umask(0)
    try:
        ended = end(start("run", images, "--output", tmp_path / "out", "--json", **environment))
    finally:
        os.umask(before)
    assert ended.status == 0, ended.err
    found = [home, *home.rglob("*")]
    assert {path.name for path in found} > {"server.log", "answers", "batches", "journal"}
    assert {path: oct(_mode(path)) for path in found if _mode(path) != (0o700 if path.is_dir() else 0o600)} == {}
    assert _mode(next((tmp_path / "out" / "results").rglob("*.parquet"))) == 0o666, "an output is shared as umask says"


def test_folders_of_the_first_release_are_closed_to_others(home: Path) -> None:
    (home / "results" / "answers").mkdir(parents=True)
    for path in (home, home / "results"):
        path.chmod(0o755)
    PrefectStore(records_of("/anywhere/out"))
    assert (_mode(home), _mode(home / "results")) == (0o755, 0o700), "a person may have chosen the home for more"


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _answers(home: Path) -> list[Path]:
    return sorted(path for path in (home / "results" / "answers").rglob("*") if path.is_file())
