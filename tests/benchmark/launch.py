"""A process that starts another and writes down what it took: `python launch.py REPORT SECONDS COMMAND...`.

It is small, because a system counts the memory of whoever starts a process as the process's own until it begins.
"""

import json
import os
import subprocess
import sys
import threading
import time

KILOBYTE = 1024 if sys.platform != "darwin" else 1  # what ru_maxrss counts in


def main() -> None:
    """Run the command to its end; one that takes longer than SECONDS is killed."""
    report, seconds, *command = sys.argv[1:]
    started, clock = time.time(), time.monotonic()
    process = subprocess.Popen(command)
    watchdog = threading.Timer(float(seconds), process.kill)
    watchdog.start()
    _, status, used = os.wait4(process.pid, 0)
    watchdog.cancel()
    taken = {
        "started": started,
        "wall_s": time.monotonic() - clock,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_bytes": used.ru_maxrss * KILOBYTE,
        "status": os.waitstatus_to_exitcode(status),
    }
    with open(report, "w", encoding="utf-8") as file:  # noqa: PTH123  # pathlib is not small
        json.dump(taken, file)


if __name__ == "__main__":
    main()
