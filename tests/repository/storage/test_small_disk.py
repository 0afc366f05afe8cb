"""Real file systems that are full, or cannot do what they must: small images, loop-mounted."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from stillframe.repository.storage.base import StorageError
from stillframe.repository.storage.open import open_storage
from stillframe.repository.storage.probe import probe
from tests.tools import need, need_root

pytestmark = pytest.mark.integration
PIECE = bytes(range(256)) * 1024


@contextmanager
def mounted(tmp_path: Path, make: list[str], size_bytes: int) -> Iterator[Path]:
    need_root()
    tools = [need(tool) for tool in (make[0], "mount", "umount")]
    image, folder = tmp_path / "image", tmp_path / "mounted"
    with image.open("wb") as file:
        file.truncate(size_bytes)
    folder.mkdir()
    subprocess.run([tools[0], *make[1:], image], check=True, capture_output=True)
    done = subprocess.run(
        [tools[1], "-o", "loop", image, folder], capture_output=True, text=True, check=False
    )
    if "unknown filesystem type" in done.stderr:
        pytest.skip(f"this kernel does not know what {make[0]} makes")
    assert done.returncode == 0, done.stderr
    try:
        yield folder
    finally:
        subprocess.run([tools[2], "--lazy", folder], check=True)
        image.unlink()


def test_a_full_disk_is_said_and_harms_nothing(tmp_path: Path) -> None:
    with mounted(tmp_path, ["mkfs.ext4", "-q"], 8 << 20) as folder:
        storage = open_storage(str(folder / "r"), create=True)
        stored = 0
        with pytest.raises(StorageError, match="No space left") as error:  # noqa: PT012 - until it is full
            while True:
                assert storage.put_if_absent(f"data/aa/{stored}", PIECE)
                stored += 1
        assert "Make room" in error.value.hint
        assert stored > 5
        assert sorted(storage.list("data/")) == sorted(f"data/aa/{number}" for number in range(stored))
        assert all(storage.get(f"data/aa/{number}") == PIECE for number in range(stored))
        assert list((folder / "r/.tmp").iterdir()) == []
        storage.delete("data/aa/0")
        assert storage.put_if_absent(f"data/aa/{stored}", PIECE)
        storage.close()


def test_a_full_disk_takes_no_part_of_a_small_object(tmp_path: Path) -> None:
    """Full to the last block: small puts fail or are whole."""
    with mounted(tmp_path, ["mkfs.ext4", "-q", "-m", "0"], 4 << 20) as folder:
        storage = open_storage(str(folder / "r"), create=True)
        fill(folder / "ballast")
        results = [put(storage_name, folder) for storage_name in ("log/1", "log/2", "log/3")]
        assert results.count("No space left") >= 1
        assert all(len(storage.get(name)) == 5000 for name in storage.list(""))
        storage.close()


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(PIECE[:1000])


def put(name: str, folder: Path) -> str:
    storage = open_storage(str(folder / "r"))
    try:
        storage.put_if_absent(name, b"x" * 5000)
    except StorageError as error:
        return "No space left" if "No space left" in str(error) else str(error)
    finally:
        storage.close()
    return "stored"


def test_a_file_system_without_hard_links_is_refused_at_once(tmp_path: Path) -> None:
    with mounted(tmp_path, ["mkfs.vfat"], 4 << 20) as folder:
        storage = open_storage(str(folder / "r"), create=True)
        with pytest.raises(StorageError, match="Operation not permitted") as error:
            probe(storage)
        assert "no hard links" in error.value.hint
        storage.close()


@pytest.mark.parametrize(
    ("make", "size_bytes"),
    [(["mkfs.ext4", "-q"], 16 << 20), (["mkfs.xfs", "-q"], 320 << 20), (["mkfs.btrfs", "-q"], 128 << 20)],
)
def test_common_file_systems_pass_the_probe(tmp_path: Path, make: list[str], size_bytes: int) -> None:
    with mounted(tmp_path, make, size_bytes) as folder:
        storage = open_storage(str(folder / "r"), create=True)
        probe(storage)
        storage.close()


def test_an_unmounted_repository_is_not_an_empty_one(tmp_path: Path) -> None:
    with mounted(tmp_path, ["mkfs.ext4", "-q"], 4 << 20) as folder:
        storage = open_storage(str(folder), create=True)
        storage.put_if_absent("config", b"c")
        subprocess.run([need("umount"), "--lazy", folder], check=True)
        assert storage.get("config") == b"c"
        with pytest.raises(StorageError, match="no repository is there"):
            open_storage(str(folder))
        storage.close()
        subprocess.run([need("mount"), "-o", "loop", tmp_path / "image", folder], check=True)
