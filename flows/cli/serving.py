"""`visionflow serve`: the deployments of deployments/prefect.yaml, served from this machine.

`visionflow automations BLOCK`: the automations of deployments/automations.yaml, on the server of PREFECT_API_URL.
"""

import os
from pathlib import Path
from typing import Any

import yaml

from flows.cli.report_server import ReportServer
from flows.cli.server import find_or_start
from flows.cli.server_process import note_address
from flows.cli.terminal import Terminal
from tasks.errors import StopRun, UsageError


def serve_deployments() -> int:
    """Serve every deployment of prefect.yaml until interrupted: its schedule, and runs started from the UI.

    The exit status: 0, or 130 where a second signal did not wait for the runs under way.
    """
    os.environ.setdefault("VISIONFLOW_KEEP_SERVER", "1")  # with its UI, for that is where runs are started
    # Seconds between its looks for runs: a person who has pressed Run, or Resume, waits for it. Prefect's are 10.
    os.environ.setdefault("PREFECT_RUNNER_POLL_FREQUENCY", "3")
    terminal = Terminal()
    server = find_or_start(terminal.note)
    server.set_environment()
    from flows.cli.registering import deployment_of
    from flows.cli.runner import serve_patiently

    terminal.waiting("Prefect's server", lambda: server.ready(terminal.note))
    if not server.ours:
        note_address(server.url)
    deployments = [deployment_of(entry) for entry in deployment_entries()]
    for deployment in deployments:
        terminal.say("Serving", f"{deployment.flow_name}/{deployment.name}")
    terminal.say("UI", server.url.removesuffix("/api"))
    reports = ReportServer()
    reports.begin()
    terminal.say("Reports", f"on 127.0.0.1:{reports.port}, linked from each run's summary in the UI")
    terminal.say("", "Ctrl-C ends it; schedules and what was set in the UI stay for the next time.")
    return serve_patiently(deployments, terminal.say)


def deployment_entries() -> list[dict[str, Any]]:
    """The deployments as prefect.yaml describes them."""
    path = Path(__file__).parents[2] / "deployments" / "prefect.yaml"
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))["deployments"]
    except OSError:
        raise StopRun("visionflow serve needs deployments/prefect.yaml: run it from a clone.") from None
    return list(entries)


def create_automations(block: str) -> int:
    """Create or bring up to date every automation; its messages go to the notification block SLUG/NAME."""
    kind, slash, name = block.partition("/")
    if not (kind and slash and name):
        raise UsageError(f"{block!r} is no block: say its type and name, such as slack-webhook/team.")
    terminal = Terminal()
    server = find_or_start(terminal.note)
    server.set_environment()
    terminal.waiting("Prefect's server", lambda: server.ready(terminal.note))
    from flows.cli.registering import register_automation

    for entry in automation_entries():
        done = register_automation(entry, kind, name)
        terminal.say(done, entry["name"])
    return 0


def automation_entries() -> list[dict[str, Any]]:
    """The automations as the file has them: without the block that each message goes to."""
    path = Path(__file__).parents[2] / "deployments" / "automations.yaml"
    try:
        return list(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError:
        raise StopRun("visionflow automations needs deployments/automations.yaml: run it from a clone.") from None
