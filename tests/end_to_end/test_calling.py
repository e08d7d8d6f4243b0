"""`from flows import analyze_images`: in a script, a thread, a notebook, and flows of both kinds."""

import ast
import asyncio
import io
import json
import re
import subprocess
import sys
import threading
from collections.abc import Awaitable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

import flows.analyze_images  # noqa: F401  # the module of the same name, imported first as a deployment does
from config.job import Job
from flows import analyze_images, read_calls, read_results
from tasks.planning.plan import make_plan
from tasks.simulator import Simulator
from tasks.simulator.ocr import model_folder
from tests.flow_runs import flow_runs_of
from tests.runs import ROOT, draw, rows

README = ROOT / "flows" / "README.md"
NOTEBOOK = ROOT / "data" / "notebook.ipynb"
JOB = Job(name="job", preset="classification", labels=("cat", "dog"))


@pytest.fixture
def images(tmp_path: Path, simulator: Simulator) -> Path:
    assert simulator.url
    return draw(tmp_path / "images", 3)


def whole(summary: Any) -> bool:
    """Whether a run of three images ended well and left its table."""
    assert isinstance(summary, dict)
    return summary["status"] == "completed" and len(rows(summary)) == 3 and {"calls_table", "costs"} <= summary.keys()


@pytest.mark.usefixtures("prefect_server")
def test_in_a_sync_flow_and_in_a_thread(images: Path, tmp_path: Path) -> None:
    @flow
    def parent() -> Any:
        return analyze_images(str(images), str(tmp_path / "out"), job=JOB)

    assert whole(parent())
    ended: list[Any] = []
    thread = threading.Thread(target=lambda: ended.append(analyze_images(images, tmp_path / "two", JOB)))
    thread.start()
    thread.join(180)
    assert whole(ended[0])
    assert len(read_results(tmp_path / "two")) == len(read_calls(tmp_path / "out")) == 3, "a Path is a place too"


@pytest.mark.usefixtures("prefect_server")
def test_in_an_async_flow_it_is_awaited_and_is_a_subflow(images: Path, tmp_path: Path, simulator: Simulator) -> None:
    simulator.change(latency=0.3)
    ticks: list[int] = []

    async def tick() -> None:
        while True:
            ticks.append(1)
            await asyncio.sleep(0.05)

    @flow
    async def parent() -> Any:
        beside = asyncio.create_task(tick())
        summary = analyze_images(str(images), str(tmp_path / "out"), job={"name": "job", "concurrency": 1})
        assert isinstance(summary, Awaitable)
        try:
            return await summary
        finally:
            beside.cancel()

    summary = asyncio.run(parent())
    assert whole(summary)
    assert len(ticks) > 10, "the parent's loop goes on meanwhile"
    (ours,) = flow_runs_of(tmp_path / "out")
    assert ours.parent_task_run_id is not None


@pytest.mark.usefixtures("prefect_server", "simulator")
def test_the_flow_itself_may_be_called_where_a_loop_runs(images: Path, tmp_path: Path) -> None:
    from flows.analyze_images import analyze_images as analyze_images_flow

    async def cell() -> Any:
        make_plan(str(images), str(tmp_path / "out"), JOB)
        return analyze_images_flow(str(images), str(tmp_path / "out"), JOB)

    assert whole(asyncio.run(cell()))


@pytest.mark.usefixtures("prefect_server", "simulator")
def test_as_the_readme_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = re.findall(r"```python\n(from flows import analyze_images.*?)```", README.read_text(), re.DOTALL)
    draw(tmp_path / "photos/receipts", 3)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, str(README), "exec"), {})
    assert capsys.readouterr().out.startswith("3 ")


@pytest.mark.usefixtures("prefect_server")
def test_in_a_script_that_has_loaded_nothing(images: Path, tmp_path: Path) -> None:
    script = (
        "import sys, json\nfrom flows import analyze_images\n"
        "assert not {'prefect', 'pydantic'} & set(sys.modules)\n"
        f"summary = analyze_images({str(images)!r}, {str(tmp_path / 'out')!r}, job={{'name': 'job'}})\n"
        "from flows import analyze_images as again\nassert again is analyze_images\n"
        "print(json.dumps(summary))"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert whole(json.loads(ended.stdout.splitlines()[-1]))


@pytest.mark.usefixtures("prefect_server", "home")
def test_the_notebook_of_the_samples_says_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell is run again, and prints or shows what is written below it."""
    if model_folder() is None:
        pytest.skip("the notebook's simulator reads text: pip install visionflow[ocr]")
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "PREFECT_LOGGING_LEVEL"):
        monkeypatch.setenv(name, "")  # what the notebook sets there is taken back
    monkeypatch.chdir(NOTEBOOK.parent)
    names: dict[str, Any] = {}
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]

    async def run_all() -> None:
        for cell in cells:
            source = "".join(cell["source"]).replace("../out/notebook", str(tmp_path / "out"))
            assert await shown(source, names) == told(cell)

    try:
        asyncio.run(run_all())
    finally:
        names["simulator"].stop()


async def shown(source: str, names: dict[str, Any]) -> str:
    """What a cell prints, and the value of its last line, as a notebook shows them."""
    *body, last = ast.parse(source).body
    value = ast.Expression(last.value) if isinstance(last, ast.Expr) else None
    tree = ast.Module(body if value else [*body, last], [])
    printed = io.StringIO()
    with redirect_stdout(printed):
        if (made := eval(compile(tree, "cell", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)) is not None:
            await made
        result = eval(compile(value, "cell", "eval"), names) if value else None
    return printed.getvalue() + ("" if result is None else repr(result))


def told(cell: dict[str, Any]) -> str:
    """What stands below a cell."""
    outputs = [output for output in cell["outputs"] if output.get("name") != "stderr"]  # what is said meanwhile
    texts = [output.get("text") or output["data"]["text/plain"] for output in outputs]
    return "".join("".join(text) for text in texts)


@pytest.mark.all
@pytest.mark.usefixtures("prefect_server")
def test_in_a_notebook(images: Path, tmp_path: Path) -> None:
    """A real kernel, whose loop runs in its main thread."""
    manager = pytest.importorskip("jupyter_client.manager", reason="no Jupyter kernel: pip install ipykernel")
    pytest.importorskip("ipykernel", reason="no Jupyter kernel: pip install ipykernel")
    call = f"analyze_images({str(images)!r}, {str(tmp_path / 'out')!r}, job={{'name': 'job'}})"
    cells = [
        "from flows import analyze_images",
        f"summary = await {call}",
        f"import asyncio\nagain, = await asyncio.gather({call})",
        "import json\nprint(json.dumps([summary, again]))",
    ]
    kernel, client = manager.start_new_kernel(cwd=str(ROOT))
    printed: list[str] = []
    try:
        for cell in cells:
            client.execute_interactive(
                cell,
                timeout=90,
                output_hook=lambda message: printed.append(
                    message["content"].get("text") or "\n".join(message["content"].get("traceback", []))
                ),
            )
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
    summary, again = json.loads("".join(printed).splitlines()[-1])
    assert whole(summary)
    assert whole(again)
    assert again["calls"] == 0
