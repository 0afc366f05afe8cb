"""Names of a directory as bytes, by The Sleuth Kit: libfsext gives up on those that are no UTF-8."""

from __future__ import annotations

import os
import threading
from typing import Any, Final

from stillframe.disk.reader import RandomReader
from stillframe.recovery.filesystems.libyal import load_library, parsing
from stillframe.recovery.filesystems.readers import ReaderFile

_ALLOCATED: Final = 1  # TSK_FS_NAME_FLAG_ALLOC: not a deleted name
_VIRTUAL: Final = {10, 11}  # TSK_FS_NAME_TYPE_VIRT, _VIRT_DIR: made up by the library


class SleuthKitNames:
    """Opens the file system at the first question, as most are never asked."""

    def __init__(self, reader: RandomReader) -> None:
        self._reader = reader
        self._file = ReaderFile(reader)
        self._lock = threading.Lock()
        self._opened: Any = None

    def list(self, inode: int) -> list[tuple[str, int]]:
        """Names (bytes that are no UTF-8 as surrogates) and inodes of the files in a directory."""
        with self._lock, parsing(f"{self._reader.name}: directory at inode {inode}", self._file):
            if self._opened is None:
                self._opened = _open(self._file)
            found = [entry.info.name for entry in self._opened.open_dir(inode=inode)]
            return [
                (os.fsdecode(name.name), name.meta_addr)
                for name in found
                if int(name.flags) == _ALLOCATED
                and int(name.type) not in _VIRTUAL
                and name.name not in {b".", b".."}
                and name.meta_addr
            ]


def _open(file: ReaderFile) -> Any:
    library = load_library("pytsk3")

    def begin(image: Any) -> None:
        library.Img_Info.__init__(image, url="", type=library.TSK_IMG_TYPE_EXTERNAL)

    def read(_image: Any, offset_bytes: int, size_bytes: int) -> bytes:
        file.seek(offset_bytes)
        return file.read(size_bytes)

    methods = {"__init__": begin, "read": read, "get_size": lambda _image: file.get_size()}
    image = type("Image", (library.Img_Info,), methods)()
    return library.FS_Info(image)
