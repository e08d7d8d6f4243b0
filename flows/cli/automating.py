"""`visionflow automations BLOCK`: the automations of deployments/automations.yaml, on the server of PREFECT_API_URL."""

from pathlib import Path
from typing import Any

import yaml

from flows.cli.server import find_or_start
from flows.cli.terminal import Terminal
from tasks.errors import StopRun, UsageError


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
