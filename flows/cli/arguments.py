"""Commands and options, as argparse has them."""

import argparse
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn

EPILOG = "Keys come from the environment (ANTHROPIC_API_KEY), never from an option. Docs: README.md"


class Parser(argparse.ArgumentParser):
    """Takes options by their whole name, and says what is wrong in one line."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **settings})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, but of each command: nothing is left over for the next parser, which knows no option."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(self._unknown(unknown))
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        sentence = message if message.endswith("?") else f"{message.rstrip('.')}."
        self.exit(2, f"visionflow: {sentence} See `{self.prog} --help`.\n")

    def _unknown(self, unknown: list[str]) -> str:
        option = next((word.partition("=")[0] for word in unknown if word.startswith("-")), None)
        if option is not None:
            return f"there is no option {option}. {did_you_mean(option, self._option_string_actions)}".rstrip()
        hint = ": put a glob in quotes" if any(action.dest == "source" for action in self._actions) else ""
        return f"{unknown[0]!r} is one word too many{hint}"


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A question with up to three names that begin so, or else are alike; empty if there is none."""
    names = list(names)
    beginning = [one for one in names if one.startswith(name) and len(name) > 2]
    alike = beginning[:3] or get_close_matches(name, names, n=3)
    return f"Did you mean {' or '.join(alike)}?" if alike else ""


def parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    top = Parser(
        prog="visionflow",
        description="Ask Claude about whole collections of images: typed Parquet and an exact bill.",
        epilog=EPILOG,
    )
    top.add_argument("--version", action="version", version=_version())
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _demo(commands.add_parser("demo", help="the whole thing, offline and without a key, over the sample images"))
    _run(commands.add_parser("run", help="ask about every image of SOURCE"))
    _estimate(commands.add_parser("estimate", help="what a run would cost, with every priced model; no paid call"))
    _compare(commands.add_parser("compare", help="which model, preset and prompt is the cheapest that is still right"))
    _report(commands.add_parser("report", help="write the HTML report of a run and print its summary"))
    _export(commands.add_parser("export", help="a run's rows for labelling tools and programs"))
    _reconcile(commands.add_parser("reconcile", help="the ledger beside the provider's own usage and cost report"))
    _simulate(commands.add_parser("simulate", help="a simulator of the API on this machine"))
    _check(commands.add_parser("check", help="verify what is kept: answers, journals, tables; mend what can be"))
    _prices(commands.add_parser("prices", help="the price table"))
    _automations(commands.add_parser("automations", help="have Prefect tell when runs fail, wait or cost much"))
    commands.add_parser("serve", help="serve the deployments from this machine: schedules and ad-hoc runs")
    return top


def _demo(command: argparse.ArgumentParser) -> None:
    command.add_argument("--output", default="out/demo", help="folder for the results (default: %(default)s)")
    _add_output_options(command)


def _run(command: argparse.ArgumentParser) -> None:
    _add_source(command)
    command.add_argument("--output", metavar="URI", help="local folder or s3://bucket/prefix for the tables")
    _add_job_options(command)
    _add_output_options(command)


def _estimate(command: argparse.ArgumentParser) -> None:
    _add_source(command)
    command.add_argument("--output", metavar="URI", help="the run's output, to count what is kept already")
    _add_job_options(command)
    command.add_argument("--json", action="store_true", help="print the estimate as one JSON object")


def _compare(command: argparse.ArgumentParser) -> None:
    _add_source(command)
    command.add_argument("--output", metavar="URI", help="local folder or s3://bucket/prefix for the tables")
    add = command.add_argument_group("what is compared (every combination is a variant)").add_argument
    add("--truth", metavar="FILE", help="labels: .jsonl, .csv, .parquet, a folder of NAME.json, or of Label Studio")
    add("--model", dest="models", action="append", metavar="ID", help="a model (repeatable)")
    add("--preset", dest="presets", action="append", metavar="NAME", help="a preset (repeatable)")
    add("--prompt", dest="prompts", action="append", metavar="TEXT|@FILE", help="a prompt (repeatable)")
    add("--tolerance", metavar="X", help="a loss of score, 0 to 1, that does not matter (default: 0)")
    _add_job_options(command, varied=("model", "preset", "prompt"))
    _add_output_options(command)


def _report(command: argparse.ArgumentParser) -> None:
    command.add_argument("output", metavar="OUTPUT", help="the run's output")
    command.add_argument("--run", metavar="ID", help="a run's id (default: the newest)")
    command.add_argument("--no-thumbnails", action="store_true", help="no small pictures of the images")
    command.add_argument("--json", action="store_true", help="print the run's summary as one JSON object")


def _export(command: argparse.ArgumentParser) -> None:
    command.add_argument("output", metavar="OUTPUT", help="the run's output")
    command.add_argument("--to", required=True, choices=("label-studio", "coco", "jsonl"), help="the form")
    command.add_argument("--run", metavar="ID", help="a run's id (default: the newest)")
    command.add_argument("--review", action="store_true", help="only rows that failed or that need a person")


def _reconcile(command: argparse.ArgumentParser) -> None:
    command.add_argument("output", metavar="OUTPUT", help="the runs' output")
    command.add_argument("--from", dest="first", required=True, metavar="DAY", help="first day, in UTC: 2026-11-01")
    command.add_argument("--to", dest="last", required=True, metavar="DAY", help="last day, counted too")
    command.add_argument("--endpoint", metavar="NAME|URL", help="whose report (default: as of run)")
    command.add_argument("--workspace", metavar="ID", help="count only this workspace's usage")
    command.add_argument("--json", action="store_true", help="print both sides as one JSON object")


def _check(command: argparse.ArgumentParser) -> None:
    command.add_argument("output", metavar="OUTPUT", nargs="?", help="a run's output (default: VISIONFLOW_HOME)")
    command.add_argument("--json", action="store_true", help="print what was found as one JSON object")


def _simulate(command: argparse.ArgumentParser) -> None:
    command.add_argument("--port", type=int, default=8765, help="port, 0 for any free one (default: %(default)s)")
    command.add_argument("--latency", type=float, default=0.0, metavar="S", help="seconds before an answer")
    command.add_argument("--faults", default="", metavar="KIND=SHARE,...", help="such as 429=0.05,529=0.02,drop=0.01")
    command.add_argument("--batch-latency", type=float, default=0.0, metavar="S", help="seconds a Message Batch takes")
    command.add_argument("--batch-faults", default="", metavar="KIND=N,...", help="such as late=3,lost=1")
    command.add_argument("--seed", type=int, default=0, help="of the faults")
    command.add_argument("--truth", default="", metavar="FILE", help="labels, as of compare: answer what they say")
    command.add_argument("--images", default="", metavar="FOLDER", help="their images (default: the labels' folder)")
    command.add_argument(
        "--errors", default="", metavar="MODEL=SHARE,...", help="such as claude-haiku-5-5@1024=0.2,*=0.05"
    )
    command.add_argument("--no-ocr", action="store_true", help="answer without reading the images' text")


def _automations(command: argparse.ArgumentParser) -> None:
    command.add_argument("block", metavar="BLOCK", help="notification block to send by, such as slack-webhook/team")


def _prices(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print it as JSON")


def _add_source(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "source", metavar="SOURCE", nargs="?", help="folder, file, glob, manifest or s3://bucket/prefix"
    )


def _add_output_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="end with the run's summary as one JSON object")
    command.add_argument("--no-progress", action="store_true", help="no progress bars")


def _add_job_options(command: argparse.ArgumentParser, varied: Sequence[str] = ()) -> None:
    """Every option's destination is the job's field of the same name, which checks it; what is not given stays out.

    `varied` are options that the command has in a way of its own.
    """
    group = command.add_argument_group("the job (all may stand in a job file; an option overrides it)")

    def add(option: str, **settings: Any) -> None:
        if option.removeprefix("--") not in varied:
            group.add_argument(option, **settings)

    add("--job", dest="job_file", metavar="FILE.yaml", help="job file")
    add("--name", metavar="JOB", help="names the job's folder in the output (default: SOURCE's last part)")
    add("--preset", metavar="NAME", help="ocr, object_detection, classification or your own (default: ocr)")
    add("--prompt", metavar="TEXT|@FILE", help="the question (default: the preset's)")
    add("--system", metavar="TEXT|@FILE", help="system prompt")
    add("--schema", metavar="FILE|MODEL|NAME", help="FILE.json, package.module:Model or a ready schema's name")
    add("--label", dest="labels", action="append", metavar="LABEL", help="classify into these labels (repeatable)")
    add("--model", metavar="ID", help="model that answers (default: claude-haiku-5-5)")
    add("--max-tokens", metavar="N", help="room for an answer (default: the preset's)")
    add("--effort", metavar="LEVEL", help="low, medium, high, xhigh or max (default: low)")
    add("--fallback-prompt", action="append", metavar="TEXT|@FILE", help="asked when an answer fails (repeatable)")
    add("--fallback-model", action="append", metavar="ID", help="asked after the fallback prompts (repeatable)")
    add("--verify", metavar="MODEL|again", help="read every image twice; rows whose readings differ need review")
    add("--verify-below", metavar="X", help="read twice only where the first answer looks less sure than X, 0 to 1")
    add("--evidence", action="store_const", const=True, help="ask where on the image each value stands")
    add("--endpoint", metavar="NAME|URL", help="whom to ask (default: ANTHROPIC_BASE_URL, else anthropic)")
    add("--concurrency", metavar="N", help="calls in flight (default: 50)")
    add("--rps", metavar="X", help="most calls a second")
    add("--rpm", metavar="N", help="most calls a minute")
    add("--attempts", metavar="N", help="calls for one image before giving up (default: 5)")
    add("--timeout", metavar="S", help="seconds to wait for one answer (default: 180)")
    add("--max-cost", metavar="USD", help="pause before more than this could be spent")
    add("--limit", metavar="N", help="only the first N images")
    add("--include", action="append", metavar="GLOB", help="only files that match (repeatable)")
    add("--exclude", action="append", metavar="GLOB", help="no files that match (repeatable)")
    add("--mode", metavar="online|batch|auto", help="batch: half the price, within a day (default: online)")
    add("--deadline", metavar="HOURS", help="with --mode auto: batches only while they can be expected in time")
    add("--no-wait", action="store_const", const=True, help="with batches: submit, leave, collect by the same command")
    add("--max-failed", metavar="SHARE", help="failed rows, 0 to 1, that Prefect may call a success (default: 0)")
    add("--pool", metavar="NAME", help="share the run among the workers of this Prefect work pool")
    add("--shards", metavar="N", help="in so many flow runs (default: 2)")
    add("--no-thumbnails", action="store_const", const=True, help="no small pictures of the images in the report")
    add("--refresh", action="store_const", const=True, help="ask again even where an answer is kept")


def _version() -> str:
    try:
        return f"visionflow {version('visionflow')}"
    except PackageNotFoundError:
        return "visionflow, from a clone that is not installed"
