"""The schemas that come with the package, one JSON file each."""

from importlib.resources import files

READY = files("config") / "schemas"


def ready_schemas() -> list[str]:
    """The names of the schemas that need no file."""
    return sorted(entry.name.removesuffix(".json") for entry in READY.iterdir() if entry.name.endswith(".json"))
