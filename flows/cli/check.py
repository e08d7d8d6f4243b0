"""`visionflow check`: what is kept is verified, mended where it can be, and what was found is said."""

import json
import sys

from flows.cli.server import keep_prefect_quiet
from flows.cli.terminal import Terminal
from flows.cli.without_pandas import leave_pandas_out
from tasks.errors import UsageError
from tasks.recording.checking import Findings, check_journals, check_records, check_tables, recover_all
from tasks.storage.output import open_output
from tasks.storage.records import LocalRecords, opened, records_of
from tasks.text import counted


def check_kept(output: str | None, *, as_json: bool) -> int:
    """Check an output and what is kept for it, or without one what VISIONFLOW_HOME holds; 1 if not all is well now.

    UsageError where the output holds nothing: a mistyped one must not read as sound.
    """
    leave_pandas_out()
    terminal = Terminal(quiet=as_json)
    findings = _found(output)
    _say(findings, terminal, output)
    if as_json:
        sys.stdout.write(json.dumps(vars(findings)) + "\n")
    return 1 if findings.troubles else 0


def _found(output: str | None) -> Findings:
    findings = Findings()
    if output is None:
        from config.settings import home

        check_records(opened(str(home() / "results")), findings)
        check_journals(findings)
        return findings
    where = open_output(output)
    records = records_of(where.uri)
    check_records(records, findings)
    keep_prefect_quiet()
    from tasks.orchestration.store import PrefectStore

    recover_all(where, PrefectStore(records), findings)
    check_tables(where, findings)
    if not isinstance(records, LocalRecords):  # what could not be put there for a while lies here
        check_journals(findings)
    if not (findings.recovered or findings.troubles or where.list()):
        raise UsageError(f"No run in {where.uri}. Check OUTPUT.")
    return findings


def _say(findings: Findings, terminal: Terminal, output: str | None) -> None:
    for what in findings.recovered:
        terminal.say("Recovered", f"{what}: it ended without notice; its calls and its bill are complete now")
    waiting = "journals of runs that ended without notice"
    for kind, count in findings.sound.items():
        if count and kind != waiting:
            terminal.say("Sound", f"{count:,} {kind}")
    if findings.sound[waiting] and output is None:
        kept = counted(findings.sound[waiting], "journal")
        terminal.say("Note", f"{kept} of runs that ended without notice: the job's next run, or a check of its output,")
        terminal.note("takes them in")
    for kind, count in findings.damaged.items():
        if count:
            terminal.say("Damaged", f"{count:,} {kind}")
    for trouble in findings.troubles:
        terminal.say("Trouble", trouble)
    if not findings.troubles:
        ended = (
            "all is well" if not any(findings.damaged.values()) else "the rest is well; what was lost is asked again"
        )
        terminal.say("Checked", ended)
