"""One function a command: it does the work by the modules it imports, prints, and returns the exit status."""

import argparse
import gc
import json
import sys

from tasks.errors import UsageError


def run(arguments: argparse.Namespace) -> int:
    """Ask about every image of the source."""
    gc.disable()  # while importing; see `conduct`
    from flows.cli.jobs import load_job
    from flows.cli.server import configured, find_or_start

    source, output, job = load_job(arguments)
    if output is None:
        raise UsageError("--output is missing: name a local folder or s3://bucket/prefix for the results.")
    if job.pool and not configured():
        raise UsageError("--pool needs a Prefect server that its workers reach too. Set PREFECT_API_URL to its URL.")
    server = find_or_start()  # before anything heavier is imported: it takes longest
    from flows.cli.conduct import conduct
    from flows.cli.terminal import Terminal

    terminal = Terminal(bars=not arguments.no_progress, quiet=arguments.json)
    summary = conduct(source, output, job, server=server, terminal=terminal)
    from tasks.orchestration.ending import ENDS

    return ENDS[summary["status"]].exit_status


def demo(arguments: argparse.Namespace) -> int:
    """Run the samples against the simulator; every one but the damaged file must have a good answer."""
    gc.disable()
    from flows.cli.server import find_or_start

    server = find_or_start()
    from flows.cli.demo import DAMAGED, demonstrate
    from flows.cli.terminal import Terminal

    terminal = Terminal(bars=not arguments.no_progress, quiet=arguments.json)
    summary = demonstrate(arguments.output, server=server, terminal=terminal)
    return 0 if summary["failed"] == DAMAGED else 1


def estimate(arguments: argparse.Namespace) -> int:
    """Say what a run would cost."""
    from flows.cli.estimate import print_estimate
    from flows.cli.jobs import load_job

    source, output, job = load_job(arguments)
    print_estimate(source, output, job, as_json=arguments.json)
    return 0


def compare(arguments: argparse.Namespace) -> int:
    """Score variants on labelled images, and name the cheapest that holds."""
    gc.disable()
    from flows.cli.jobs import load_choices, load_job
    from flows.cli.server import find_or_start

    source, output, job = load_job(arguments)
    choices = load_choices(arguments)
    if output is None:
        raise UsageError("--output is missing: name a local folder or s3://bucket/prefix for the results.")
    server = find_or_start()
    from flows.cli.compare import ComparisonRequest, conduct_comparison
    from flows.cli.terminal import Terminal

    terminal = Terminal(bars=not arguments.no_progress, quiet=arguments.json)
    found = conduct_comparison(ComparisonRequest(source, output, choices, job), server=server, terminal=terminal)
    if arguments.json:
        sys.stdout.write(json.dumps(found["summary"]) + "\n")
    return int(found["exit_status"])


def report(arguments: argparse.Namespace) -> int:
    """Write the report of a run and print its summary."""
    from flows.cli.report import print_report

    print_report(arguments.output, arguments.run, as_json=arguments.json, pictures=not arguments.no_thumbnails)
    return 0


def export(arguments: argparse.Namespace) -> int:
    """Write a run's rows for labelling tools and programs."""
    from flows.cli.report import print_export

    print_export(arguments.output, arguments.run, to=arguments.to, review=arguments.review)
    return 0


def reconcile(arguments: argparse.Namespace) -> int:
    """Hold the ledger beside the provider's report."""
    from flows.cli.reconcile import day, print_reconciliation
    from tasks.reporting.reconciliation import Period

    period = Period(day(arguments.first), day(arguments.last))
    return print_reconciliation(
        arguments.output, period, arguments.endpoint, arguments.workspace, as_json=arguments.json
    )


def check(arguments: argparse.Namespace) -> int:
    """Verify what is kept."""
    from flows.cli.check import check_kept

    return check_kept(arguments.output, as_json=arguments.json)


def simulate(arguments: argparse.Namespace) -> int:
    """Serve the simulator until interrupted."""
    from tasks.simulator.faults import Settings
    from tasks.simulator.http_server import serve
    from tasks.simulator.ocr import model_folder

    try:
        settings = Settings(
            port=arguments.port,
            latency=arguments.latency,
            faults=arguments.faults,
            batch_latency=arguments.batch_latency,
            batch_faults=arguments.batch_faults,
            seed=arguments.seed,
            ocr=not arguments.no_ocr and model_folder() is not None,
            truth=arguments.truth,
            images=arguments.images,
            errors=arguments.errors,
        )
        serve(settings, _simulator_ready)
    except ValueError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"Cannot listen on port {arguments.port}: {error.strerror}. Take another --port.") from None
    return 0


def prices(arguments: argparse.Namespace) -> int:
    """Print the price table."""
    from flows.cli.printed_tables import print_prices

    print_prices(as_json=arguments.json)
    return 0


def serve(_: argparse.Namespace) -> int:
    """Serve the deployments."""
    from flows.cli.serving import serve_deployments

    return serve_deployments()


def automations(arguments: argparse.Namespace) -> int:
    """Create the automations."""
    from flows.cli.serving import create_automations

    return create_automations(arguments.block)


def _simulator_ready(url: str) -> None:
    lines = [
        url,
        "Simulates the Messages API: its answers are marked as simulated and cost nothing. Ctrl-C ends it.",
        f"Use it:  visionflow run FOLDER --output OUT --endpoint {url}   (with any ANTHROPIC_API_KEY)",
        f"Ledger:  {url}/simulator/ledger",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
