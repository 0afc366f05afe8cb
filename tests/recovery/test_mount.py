from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.recovery.images import make

pytestmark = pytest.mark.integration


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc" / "hostname").write_text("box\n")
    (tree / "etc" / "link").symlink_to("hostname")
    os.setxattr(tree / "etc" / "hostname", "user.note", b"hello")
    return make(tmp_path / "disk.img", 8 << 20, "mke2fs", "-q", "-F", "-t", "ext4", "-d", tree)


@contextmanager
def serving(image: Path, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    if not os.access("/dev/fuse", os.W_OK):
        pytest.skip("no FUSE here")
    folder.mkdir()
    program = "from stillframe.cli.main import main; main()"
    command = [sys.executable, "-c", program, "mount", str(image), str(folder)]
    with subprocess.Popen(command) as process:
        try:
            while not os.path.ismount(folder):
                assert process.poll() is None
                time.sleep(0.02)
            yield process
        finally:
            process.terminate()


def test_disk_and_files_are_there(image: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mount"
    with serving(image, folder):
        assert sorted(os.listdir(folder)) == ["disk.img", "disk.img.raw"]
        assert (folder / "disk.img.raw").read_bytes() == image.read_bytes()
        etc = folder / "disk.img" / "etc"
        assert (etc / "hostname").read_text() == "box\n"
        assert os.readlink(etc / "link") == "hostname"
        assert os.getxattr(etc / "hostname", "user.note") == b"hello"
        assert not (etc / "missing").exists()
        with pytest.raises(OSError, match="Read-only"):
            (etc / "new").touch()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_unmounts(number: signal.Signals, image: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mount"
    with serving(image, folder) as process:
        process.send_signal(number)
        process.send_signal(number)
        assert process.wait(30) in {0, 128 + number, 130}
        assert not os.path.ismount(folder)
        assert os.listdir(folder) == []


def test_a_folder_that_is_not_empty_is_not_hidden(image: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    program = "from stillframe.cli.main import main; main()"
    command = [sys.executable, "-c", program, "mount", str(image), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is not empty" in done.stderr
