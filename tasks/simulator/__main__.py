"""`python -m tasks.simulator`: the simulator as a process of its own; its URL is the first line it prints."""

import argparse
import sys
from pathlib import Path

from tasks.errors import VisionflowError
from tasks.simulator.faults import Settings
from tasks.simulator.http_server import serve
from tasks.simulator.ocr import model_folder


def main() -> int:
    """Serve until interrupted; exit status 2 when an option cannot be used."""
    options = _parser().parse_args()
    settings = Settings(
        host=options.host,
        port=options.port,
        latency=options.latency,
        faults=options.faults,
        batch_latency=options.batch_latency,
        batch_faults=options.batch_faults,
        seed=options.seed,
        retry_after=options.retry_after,
        ocr=not options.no_ocr and model_folder() is not None,
        requests_per_minute=options.requests_per_minute,
        input_tokens_per_minute=options.input_tokens_per_minute,
        output_tokens_per_minute=options.output_tokens_per_minute,
        keep_entries=not options.no_entries,
    )

    def ready(url: str) -> None:
        if options.ready_file is not None:
            # Renamed into place, so that a waiting reader never sees half a URL.
            partial = options.ready_file.with_name(f"{options.ready_file.name}.part")
            partial.write_text(url, encoding="utf-8")
            partial.replace(options.ready_file)
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()

    try:
        serve(settings, ready)
    except (VisionflowError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tasks.simulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8765, help="0 for any free port")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds from a request to its answer")
    parser.add_argument("--faults", default="", help="for example 429=0.05:2,529=0.02,drop=0.01")
    parser.add_argument("--batch-latency", type=float, default=0.0, help="seconds from a batch to its end")
    parser.add_argument("--batch-faults", default="", help="for example late=3,lost=1,slow_cancel=2")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other faults")
    parser.add_argument("--retry-after", type=float, default=1.0, help="seconds sent with 429")
    parser.add_argument("--no-ocr", action="store_true", help="never read text in images")
    parser.add_argument("--requests-per-minute", type=int)
    parser.add_argument("--input-tokens-per-minute", type=int)
    parser.add_argument("--output-tokens-per-minute", type=int)
    parser.add_argument("--no-entries", action="store_true", help="keep only the ledger's totals")
    parser.add_argument("--ready-file", type=Path, help="file to write the URL to once it listens")
    return parser


if __name__ == "__main__":
    sys.exit(main())
