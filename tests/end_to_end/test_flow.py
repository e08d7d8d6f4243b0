"""The flow from end to end: real files, a real S3 server, the simulator over a socket, Prefect's own server."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import pandas as pd
import pytest
from aiobotocore.httpsession import AIOHTTPSession
from PIL import Image

from config.job import Job
from flows import analyze_images
from tasks.simulator import Simulator
from tests.golden import golden_files
from tests.runs import draw, forget_s3_connections, picture, rows, run_table, sha
from tests.s3 import S3Server

pytestmark = pytest.mark.usefixtures("prefect_server")


def run(source: object, output: object, **options: Any) -> dict[str, Any]:
    summary: dict[str, Any] = analyze_images(str(source), str(output), Job(**options))
    return summary


def test_every_image_becomes_one_row_and_the_bill_is_the_endpoints_own(simulator: Simulator, tmp_path: Path) -> None:
    images = draw(tmp_path / "images", 12)
    (images / "damaged.jpg").write_bytes(picture(99)[:300])
    (images / "notes.txt").write_text("no image")
    summary = run(images, tmp_path / "out", name="first")

    results, calls, costs = (rows(summary, table) for table in ("results", "calls", "costs"))
    assert sorted(results["name"]) == sorted([f"p{number:03}.jpg" for number in range(12)] + ["damaged.jpg"])
    assert set(results["page"]) == {1}
    damaged = results[results["name"] == "damaged.jpg"].iloc[0]
    assert (damaged["status"], damaged["attempts"], damaged["cost_usd"]) == ("unreadable", 0, 0)
    good = results[results["status"] == "ok"]
    assert len(good) == 12 and good["answer"].str.contains("simulator").all()
    assert good["model_answered"].str.startswith("simulated/").all()

    ledger = simulator.ledger()
    assert ledger.requests == ledger.billed == len(calls) == 12
    runs = run_table(tmp_path / "out")
    for bill in (calls["cost_usd"].sum(), results["cost_usd"].sum(), costs["cost_usd"].sum(), runs["cost_usd"][0]):
        assert bill == ledger.cost_usd > 0
    assert summary["cost_usd"] == float(ledger.cost_usd)
    assert summary["cost_cny"] == pytest.approx(float(ledger.cost_usd * Decimal("7.0197")), abs=1e-9)
    assert summary["input_tokens"] == calls["input_tokens"].sum() == ledger.tokens["input"]
    assert (summary["status"], summary["images"], summary["ok"], summary["failed"]) == (
        "completed_with_failures",
        13,
        12,
        1,
    )
    assert Path(summary["report"]).read_text().startswith("<!")


def test_a_second_run_makes_no_call_and_the_job_reads_as_one_dataset(simulator: Simulator, tmp_path: Path) -> None:
    images, output = draw(tmp_path / "images", 6), tmp_path / "out"
    first = run(images, output)
    second = run(images, output)
    draw(images, 2, start=6)
    third = run(images, output)

    assert simulator.ledger().requests == 8
    assert [one["calls"] for one in (first, second, third)] == [6, 0, 2]
    assert second["cost_usd"] == 0
    assert second["saved_usd"] == first["cost_usd"]
    kept = rows(second)
    assert kept["cached"].all() and set(kept["cost_usd"]) == {0}
    assert dict(zip(kept["name"], kept["answer"], strict=True)) == dict(
        zip(rows(first)["name"], rows(first)["answer"], strict=True)
    )
    query = f"""SELECT run_id, count(*), count(DISTINCT image), sum(cost_usd)
                FROM read_parquet('{output}/results/**/*.parquet') GROUP BY run_id ORDER BY run_id"""
    counted = duckdb.execute(query).fetchall()
    assert [row[1:3] for row in counted] == [(6, 6), (6, 6), (8, 8)]
    assert sum(row[3] for row in counted) == simulator.ledger().cost_usd
    assert len(pd.read_parquet(output / "results" / "job=images")) == 20


def test_answers_follow_the_bytes_not_the_folder(simulator: Simulator, tmp_path: Path) -> None:
    run(draw(tmp_path / "images", 4), tmp_path / "out")
    renamed = tmp_path / "elsewhere" / "deep"
    renamed.mkdir(parents=True)
    for number, path in enumerate(sorted((tmp_path / "images").iterdir())):
        (renamed / f"other-{number}.JPG").write_bytes(path.read_bytes())

    summary = run(tmp_path / "elsewhere", tmp_path / "another" / "out", name="again")
    assert (summary["calls"], summary["cached"], summary["ok"]) == (0, 4, 4)
    assert run(tmp_path / "elsewhere", tmp_path / "another", prompt="Another question?")["calls"] == 4
    assert simulator.ledger().requests == 8


def test_the_same_bytes_are_asked_once(simulator: Simulator, tmp_path: Path) -> None:
    images = draw(tmp_path / "images", 3)
    for number in range(3):
        (images / f"copy-{number}.jpg").write_bytes(picture(number))
    summary = run(images, tmp_path / "out")

    assert simulator.ledger().requests == summary["calls"] == 3
    assert (summary["ok"], summary["duplicates"]) == (6, 3)
    results = rows(summary)
    copies = results[results["duplicate_of"].notna()]
    assert set(copies["cost_usd"]) == {0}
    by_image = results.set_index("image")
    for _, copy in copies.iterrows():
        first = by_image.loc[copy["duplicate_of"]]
        assert (first["sent_sha256"], first["answer"]) == (copy["sent_sha256"], copy["answer"])
        assert first["cost_usd"] > 0


def test_refresh_asks_again_and_pays_again(simulator: Simulator, tmp_path: Path) -> None:
    images = draw(tmp_path / "images", 3)
    run(images, tmp_path / "out")
    summary = run(images, tmp_path / "out", refresh=True)
    assert (summary["calls"], summary["cached"], simulator.ledger().requests) == (3, 0, 6)
    assert run(images, tmp_path / "out")["calls"] == 0


def test_limit_and_globs_choose_images(simulator: Simulator, tmp_path: Path) -> None:
    images = draw(tmp_path / "images", 8)
    assert rows(run(images, tmp_path / "out", limit=3))["name"].sort_values().tolist() == [
        "p000.jpg",
        "p001.jpg",
        "p002.jpg",
    ]
    chosen = rows(run(images, tmp_path / "out", include=["p00[3-6].jpg"], exclude=["p004*"]))
    assert sorted(chosen["name"]) == ["p003.jpg", "p005.jpg", "p006.jpg"]
    assert simulator.ledger().requests == 6


def test_answers_are_typed_by_the_schema(simulator: Simulator, tmp_path: Path) -> None:
    images = draw(tmp_path / "images", 3)
    output = tmp_path / "out"
    summary = run(images, output, answer_schema="receipt", name="receipts")
    assert summary["ok"] == 3
    result = rows(summary)["result"].iloc[0]
    assert {"company", "total"} <= set(result)
    fields = duckdb.execute(f"DESCRIBE SELECT result.* FROM '{output}/results/**/*.parquet'").df()
    assert dict(zip(fields["column_name"], fields["column_type"], strict=True))["total"].startswith(("DECIMAL", "DOUB"))

    labelled = rows(run(images, output, labels=["cat", "dog"], preset="classification", name="labels"))
    assert {result["label"] for result in labelled["result"]} <= {"cat", "dog"}


def test_how_it_can_end_for_an_image(simulator: Simulator, tmp_path: Path) -> None:
    images = draw(tmp_path / "images", 6)
    ends = {0: "refusal", 1: "max_tokens", 2: "garbage", 3: "400", 4: "500"}
    simulator.set_faults(script={sha(picture(number)): [fault] * 20 for number, fault in ends.items()})
    summary = run(images, tmp_path / "out", answer_schema="document", attempts=1)

    status = rows(summary).set_index("name")["status"].to_dict()
    assert status == {
        "p000.jpg": "refused",
        "p001.jpg": "truncated",
        "p002.jpg": "invalid",
        "p003.jpg": "rejected",
        "p004.jpg": "unavailable",
        "p005.jpg": "ok",
    }
    results = rows(summary).set_index("name")
    failed = results.drop(index="p005.jpg")
    assert failed["error"].str.len().gt(0).all() and failed["error_code"].str.len().gt(0).all()
    assert failed["result"].isna().all()
    assert results.loc["p002.jpg", "answer"], "an answer that does not fit keeps its text"
    assert rows(summary, "calls")["cost_usd"].sum() == results["cost_usd"].sum() == simulator.ledger().cost_usd

    # What can never change is kept; what may change is asked again by the next run, and by nothing before.
    asked = simulator.ledger().requests
    simulator.set_faults()
    again = run(images, tmp_path / "out", answer_schema="document", attempts=1)
    assert simulator.ledger().requests - asked == again["calls"] == 2
    assert rows(again).set_index("name")["status"].to_dict() == {
        **status,
        "p001.jpg": "truncated",
        "p003.jpg": "ok",
        "p004.jpg": "ok",
    }


def test_fallbacks_are_climbed_until_an_answer_fits(simulator: Simulator, tmp_path: Path) -> None:
    images = draw(tmp_path / "images", 4)
    script = {sha(picture(1)): ["garbage"], sha(picture(2)): ["garbage", "garbage"]}
    simulator.set_faults(script=script)
    summary = run(
        images,
        tmp_path / "out",
        answer_schema="document",
        fallback_prompt=["Only the text, please."],
        fallback_model=["claude-sonnet-5-5"],
    )
    results = rows(summary).set_index("name").sort_index()
    assert set(results["status"]) == {"ok"}
    assert results["step"].tolist() == [0, 1, 2, 0]
    assert results["attempts"].tolist() == [1, 2, 3, 1]
    assert results.loc["p002.jpg", "model"] == "claude-sonnet-5-5"
    calls = rows(summary, "calls")
    assert calls[calls["image"].str.endswith("p002.jpg")].sort_values("call")["step"].tolist() == [0, 1, 2]
    assert calls["cost_usd"].sum() == results["cost_usd"].sum() == simulator.ledger().cost_usd


def test_the_golden_set_is_sent_or_explained_and_nothing_is_refused(simulator: Simulator, tmp_path: Path) -> None:
    folder = tmp_path / "golden"
    folder.mkdir()
    for name, golden in golden_files().items():
        (folder / name).write_bytes(golden.data)
    # A manifest lists every file, whatever its name; the folder itself passes some over by their extension.
    (tmp_path / "all.txt").write_text("\n".join(f"golden/{name}" for name in golden_files()))
    summary = run(tmp_path / "all.txt", tmp_path / "out")

    results = rows(summary)
    assert results.groupby("name")["page"].count().to_dict() == {
        f"golden/{name}": golden.pages if golden.expect == "ok" else 1 for name, golden in golden_files().items()
    }
    for name, golden in golden_files().items():
        of_file = results[results["name"] == f"golden/{name}"]
        if golden.expect == "ok":
            assert set(of_file["status"]) == {"ok"}, name
        else:
            assert (of_file["status"].item(), of_file["error_code"].item()) == ("unreadable", golden.expect), name
            assert of_file["error"].item()
    assert set(simulator.ledger().outcomes) == {"ok"}


def test_every_page_of_a_document_is_a_row(simulator: Simulator, tmp_path: Path) -> None:
    first, *others = (Image.new("1", (300, 200 + 10 * page), page % 2) for page in range(3))
    (tmp_path / "fax").mkdir()
    first.save(tmp_path / "fax" / "fax.tiff", save_all=True, append_images=others)
    summary = run(tmp_path / "fax", tmp_path / "out")
    results = rows(summary).sort_values("page")
    assert results["page"].tolist() == [1, 2, 3]
    assert results["source_height"].tolist() == [200, 210, 220]
    assert (summary["images"], summary["rows"], simulator.ledger().requests) == (1, 3, 3)
    assert run(tmp_path / "fax", tmp_path / "out")["calls"] == 0


@pytest.fixture
def bucket(s3_server: S3Server, tmp_path: Path) -> Iterator[str]:
    """A prefix of its own in the bucket, with seven pictures."""
    forget_s3_connections()
    prefix = f"s3://{s3_server.bucket}/{tmp_path.name}"
    client = s3_server.client()
    for number in range(7):
        client.put_object(Bucket=s3_server.bucket, Key=f"{tmp_path.name}/images/{number}.jpg", Body=picture(number))
    yield prefix
    forget_s3_connections()


def test_from_s3_to_s3_nothing_is_downloaded_twice(
    simulator: Simulator, bucket: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the report, which reads the images that it shows again."""
    downloads: list[str] = []
    send = AIOHTTPSession.send

    async def counting(self: Any, request: Any) -> Any:
        if request.method == "GET":
            downloads.append(urlsplit(request.url).path)
        return await send(self, request)

    monkeypatch.setattr(AIOHTTPSession, "send", counting)
    first = run(f"{bucket}/images", f"{bucket}/facts", no_thumbnails=True)
    pictures = [key for key in downloads if key.endswith(".jpg")]
    assert (first["ok"], first["calls"], len(pictures)) == (7, 7, 7)
    table = pd.read_parquet(first["results"])
    assert table["source_etag"].str.len().gt(0).all()
    assert table["image"].str.startswith(f"{bucket}/images/").all()
    assert rows(first, "calls")["cost_usd"].sum() == simulator.ledger().cost_usd

    downloads.clear()
    # Another machine: nothing is left here, and the answers are found beside the results.
    monkeypatch.setenv("VISIONFLOW_HOME", str(home / "of-another-machine"))
    second = run(f"{bucket}/images", f"{bucket}/facts", no_thumbnails=True)
    assert (second["ok"], second["cached"], simulator.ledger().requests) == (7, 7, 7)
    assert not [key for key in downloads if key.endswith(".jpg")]
