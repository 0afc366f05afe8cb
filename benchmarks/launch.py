"""Runs one command and reports what it took. A program of its own, of the standard library only.

Linux counts the memory of a process from its fork on, what it then had of its parent included. A command
started by the harness itself would be charged with the harness's arrays; started from here, its floor is this
small program.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    """``launch.py FOLDER REPORT COMMAND...``: run the command, sync its file system, report."""
    folder, report, command = sys.argv[1], sys.argv[2], sys.argv[3:]
    began = time.perf_counter()
    process = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(process, 0)
    ended = time.perf_counter()
    os.posix_spawnp("sync", ["sync", "-f", folder], os.environ)
    os.wait()
    synced = time.perf_counter()
    measured = {
        "wall_s": synced - began,
        "sync_s": synced - ended,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "memory_bytes": usage.ru_maxrss * 1024,
        "exit_code": os.waitstatus_to_exitcode(status),
    }
    with open(report, "w", encoding="utf-8") as file:
        json.dump(measured, file)


if __name__ == "__main__":
    main()
