"""``make demo``."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from tools.demo import programs
from tools.demo.errors import DemoError
from tools.demo.ledger_disk import release_leftovers
from tools.demo.sizes import SMALL, USUAL, Sizes
from tools.demo.story import Story

from stillframe.cli.sizes import format_size

_MARK = "made-by-the-stillframe-demo"
_NEEDED = ("mkfs.ext4", "debugfs")


def main(arguments: Sequence[str] | None = None) -> int:
    """Tell the story; 0 if everything held, 1 if not, 130 if interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".build/demo"), help="where to play; made anew")
    parser.add_argument("--small", action="store_true", help="smaller disks and less work")
    parser.add_argument("--no-mount", action="store_true", help="play as root what others see")
    options = parser.parse_args(arguments)
    sizes = SMALL if options.small else USUAL
    signal.signal(signal.SIGTERM, _end)
    start_s = time.monotonic()
    try:
        folder = _new_folder(options.folder, sizes)
        Story(folder, sizes, mount=os.geteuid() == 0 and not options.no_mount).tell()
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130
    print(f"\nThis took {time.monotonic() - start_s:.0f} s.")
    return 0


def _end(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends the demo in order, as Ctrl-C does: nothing stays frozen or mounted."""
    del number, frame
    raise KeyboardInterrupt


def _new_folder(folder: Path, sizes: Sizes) -> Path:
    """Make the folder anew; one that no demo made is left alone."""
    missing = [program for program in _NEEDED if programs.find(program) is None]
    if missing:
        raise DemoError(
            f"{', '.join(missing)}: not installed. On Debian: sudo apt-get install e2fsprogs qemu-utils"
        )
    folder = folder.absolute()
    if folder.exists():
        if not (folder / _MARK).exists():
            raise DemoError(f"{folder}: exists, and no demo made it")
        release_leftovers(folder)
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / _MARK).touch()
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < sizes.needed_bytes:
        needed = format_size(sizes.needed_bytes)
        raise DemoError(f"{folder}: the demo needs {needed} free, there are {format_size(free_bytes)}")
    return folder


if __name__ == "__main__":
    sys.exit(main())
