"""A shard of a fleet: the main job over its part of the images, started by the run that has the rest of them.

The parent is `analyze_images` with a work pool in its job.
"""

from typing import Any

from prefect import flow

from flows.analyze_images import RUNNER
from tasks.orchestration.fleet.manifest import manifest_of
from tasks.orchestration.fleet.shard import hand_in, in_touch, open_shard
from tasks.orchestration.flow_state import says_how_it_ends
from tasks.orchestration.opening import list_images
from tasks.orchestration.steps import ask_for, prepare
from tasks.orchestration.stopping import stoppable
from tasks.orchestration.window import in_window
from tasks.planning.plan import Part


@flow(name="analyze-images-shard", task_runner=RUNNER)
@says_how_it_ends
def shard(output: str, job: str, run_id: str, number: int, attempt: int) -> Any:
    """Ask about the images of one shard, and leave its rows, calls and last report in the output of the run.

    Args:
        output: Of the run
        job: The name of its folder there
        run_id: The run
        number: Of the shard, from 1 on
        attempt: How often it was started before
    """
    manifest = manifest_of(output, job, run_id)
    with stoppable() as stop:
        with open_shard(manifest, Part(number, attempt), stop) as run:
            todo = list_images(run)
            with in_touch(run, manifest) as touch:
                for rows in in_window(run, todo, prepare.map, ask_for(run).map):
                    run.recorder.record(rows)
        return hand_in(run, manifest, touch)
