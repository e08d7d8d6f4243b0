"""`visionflow demo`: the samples through the real flow, against the simulator, without a key."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from config.job import Job
from flows.cli.conduct import conduct
from flows.cli.jobs import check_configuration
from flows.cli.server import Server
from flows.cli.terminal import Terminal, shortened
from tasks.errors import StopRun
from tasks.storage.output import open_output

# The samples hold one damaged file, so that one row shows what becomes of such a file.
DAMAGED = 1


def demonstrate(output: str, *, server: Server, terminal: Terminal) -> dict[str, Any]:
    """Run the samples, then show some of the text that was read and what to do next; the run's summary."""
    check_configuration()
    if not samples().is_dir():
        raise StopRun("The demo needs the sample images of a clone: run it there (make demo).")
    terminal.say("Demo", "offline: a simulator answers instead of Claude. It reads text with a local OCR engine.")
    with _simulator() as url:
        os.environ["ANTHROPIC_API_KEY"] = "simulated"  # of this process alone; the simulator takes any
        job = Job(name="demo", preset="ocr", answer_schema="document", endpoint=url)
        summary = conduct(str(samples()), output, job, server=server, terminal=terminal)
    _show_answers(terminal, output, summary)
    commands = shortened(str(Path(sys.executable).parent))
    terminal.say("Next", "open the report in a browser, or run the demo again: no call is made twice.")
    terminal.say("", "With your own images and key:")
    terminal.note("  export ANTHROPIC_API_KEY=...")
    terminal.note(f"  {commands}/visionflow estimate FOLDER")
    terminal.note(f"  {commands}/visionflow run FOLDER --output OUT --schema document --max-cost 1")
    return summary


@contextmanager
def _simulator() -> Iterator[str]:
    """The simulator as a process of its own, as an API would be."""
    command = [sys.executable, "-m", "tasks.simulator", "--port", "0", "--latency", "0.2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().decode().strip()
            if not url:
                raise StopRun("The simulator did not start. Try `visionflow simulate` to see why.")
            yield url
        finally:
            process.terminate()


def _show_answers(terminal: Terminal, output: str, summary: dict[str, Any]) -> None:
    """The first words that were read in some of the images."""
    folder = f"results/job={summary['job']}/run={summary['run_id']}"
    rows = open_output(output).read_table(folder, columns=["name", "page", "status", "answer"]).to_pylist()
    shown = 0
    for row in rows:
        words = " ".join(json.loads(row["answer"]).get("text", "").split()) if row["status"] == "ok" else ""
        if words and shown < 4:
            terminal.say("Read" if not shown else "", f"{row['name']}: {words[:44]} ...")
            shown += 1


def samples() -> Path:
    """The sample images of a clone."""
    return Path(__file__).parents[2] / "data" / "samples"
