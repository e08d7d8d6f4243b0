"""An Anthropic-compatible server for demos, tests and benchmarks: it refuses, answers, bills and fails as told.

http_server  the HTTP endpoints           rules         what the API refuses: headers, parameters
content      messages and images          schema_rules  what the API refuses in an output schema
messages     what is answered, and how    fill          a value that fits any schema, from the facts read
fields       facts found in read text     ocr           reading text in images
metering     tokens, cache, limits        ledger        every request and its cost
faults       failures on purpose          lies          answers that are nonsense or never end
batches      Message Batches              batch_routes  their endpoints
known        answers from labels, of which a share is wrong
catalogue    models, prices and errors    service       one request, from its body to its answer
embedded     the server in a thread, for tests

Every answer is marked: header `visionflow-simulated: true`, model `simulated/...`, ids `msg_simulated_...`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.simulator.embedded import Simulator
    from tasks.simulator.faults import Settings

__all__ = ["Settings", "Simulator"]


def __getattr__(name: str) -> Any:
    """Import the server only when it is asked for: aiohttp costs a quarter of a second."""
    if name == "Simulator":
        from tasks.simulator.embedded import Simulator

        return Simulator
    if name == "Settings":
        from tasks.simulator.faults import Settings

        return Settings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
