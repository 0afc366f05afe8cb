"""How the file commands print disks, volumes, files and reports."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from stillframe.cli.output import print_json, print_table, printable
from stillframe.cli.sizes import format_size
from stillframe.errors import StillframeError
from stillframe.recovery.files import DiskFiles, Found, walk
from stillframe.recovery.filesystems.interface import Entry, EntryKind
from stillframe.recovery.filesystems.opening import has_parser
from stillframe.recovery.filesystems.volumes import Volume
from stillframe.recovery.restoring import RestoreReport

Listed = tuple[str, Entry]

_TYPE_BITS = {
    EntryKind.FILE: stat.S_IFREG,
    EntryKind.DIRECTORY: stat.S_IFDIR,
    EntryKind.SYMLINK: stat.S_IFLNK,
    EntryKind.FIFO: stat.S_IFIFO,
    EntryKind.SOCKET: stat.S_IFSOCK,
    EntryKind.CHARACTER_DEVICE: stat.S_IFCHR,
    EntryKind.BLOCK_DEVICE: stat.S_IFBLK,
    EntryKind.OTHER: 0,
}


def print_disks(names: Iterable[str], *, as_json: bool) -> None:
    if as_json:
        print_json({"disks": list(names)})
        return
    for name in names:
        print(printable(name))


def print_volumes(disk: DiskFiles, *, as_json: bool) -> None:
    """The volumes of a disk with what is on them; a volume that cannot be read says why."""
    rows = [_describe(disk, volume) for volume in disk.volumes]
    if as_json:
        print_json({"volumes": rows})
        return
    cells = [
        [
            str(row["name"]),
            format_size(volume.size_bytes),
            str(row["kind"] or "-"),
            str(row["label"] or "-"),
            volume.type_name,
            "journal not replayed" if row["journal_dirty"] else str(row["trouble"]),
        ]
        for volume, row in zip(disk.volumes, rows, strict=True)
    ]
    print_table(("VOLUME", "SIZE", "HOLDS", "LABEL", "TYPE", "NOTE"), cells, right=(1,))


def entries_of(found: Found, *, recursive: bool, report: Callable[[str], None]) -> list[Listed]:
    """The entries of a folder, sorted by name, all below with ``recursive``; a file is its own list."""
    if found.entry.kind is not EntryKind.DIRECTORY or found.stream:
        return [(found.name, found.entry)]
    if recursive:
        return sorted(walk(found, report), key=lambda listed: listed[0].split("/"))
    listing = found.file_system.list(found.entry)
    for problem in listing.problems:
        report(problem)
    return sorted(((entry.name, entry) for entry in listing.entries), key=lambda listed: listed[0])


def print_entries(found: Found, entries: Sequence[Listed], *, long: bool) -> None:
    for path, entry in entries:
        if long:
            _print_long(found, path, entry)
        else:
            print(printable(path) + ("/" if entry.kind is EntryKind.DIRECTORY else ""))


def print_entries_json(found: Found, entries: Sequence[Listed], problems: Sequence[str]) -> None:
    info = found.file_system.info
    print_json(
        {
            "volume": found.volume.name,
            "path": found.path,
            "file_system": info.kind,
            "label": info.label,
            "journal_dirty": info.journal_dirty,
            "notes": list(info.notes),
            "entries": [{"path": path, **as_json(entry), **_target(found, entry)} for path, entry in entries],
            "problems": list(problems),
        }
    )


def as_json(entry: Entry) -> dict[str, object]:
    """An entry as the JSON of the listing shows it; times in nanoseconds since 1970 UTC."""
    return {
        "kind": entry.kind.value,
        "size_bytes": entry.size_bytes,
        "mode": None if entry.mode is None else f"{entry.mode:04o}",
        "owner": entry.owner,
        "group": entry.group,
        "modified_ns": entry.times.modified_ns,
        "accessed_ns": entry.times.accessed_ns,
        "changed_ns": entry.times.changed_ns,
        "created_ns": entry.times.created_ns,
        "links_with": entry.link_key,
        "flags": list(entry.flags),
        "streams": [{"name": s.name, "size_bytes": s.size_bytes} for s in entry.streams],
    }


def print_report(report: RestoreReport, target: Path, *, as_json: bool) -> None:
    lost = report.lost.lines()
    if as_json:
        print_json(
            {
                "files": report.files,
                "directories": report.directories,
                "links": report.links,
                "bytes": report.bytes,
                "not_kept": lost,
                "problems": report.problems,
            }
        )
        return
    print(
        f"{report.files} files, {report.directories} folders, {report.links} links "
        f"({format_size(report.bytes)}) restored to {target}"
    )
    for line in lost:
        print(f"not kept: {printable(line)}")
    if report.problems:
        print(f"not restored: {len(report.problems)} (see above)")


def _describe(disk: DiskFiles, volume: Volume) -> dict[str, object]:
    """A volume and its file system; opening one only to list it is left to those that a parser reads."""
    row: dict[str, object] = {
        "name": volume.name,
        "size_bytes": volume.size_bytes,
        "type": volume.type_name,
        "kind": volume.content,
        "label": "",
        "journal_dirty": None,
        "trouble": volume.trouble,
    }
    if has_parser(volume):
        try:
            info = disk.file_system(volume).info
        except StillframeError as error:
            return {**row, "trouble": str(error)}
        row |= {"kind": info.kind, "label": info.label, "journal_dirty": info.journal_dirty}
    return row


def _print_long(found: Found, path: str, entry: Entry) -> None:
    owner = "-" if entry.owner is None else f"{entry.owner}:{entry.group}"
    target = _target(found, entry).get("target")
    marks = f"  [{' '.join(entry.flags)}]" if entry.flags else ""
    arrow = f" -> {target}" if target is not None else ""
    line = f"{_mode(entry)} {owner:>11} {entry.size_bytes:>14} {_time(entry)} {path}{arrow}{marks}"
    print(printable(line))
    for stream in entry.streams:
        print(printable(f"{'':37}{stream.size_bytes:>4} {'':19} {path}:{stream.name}"))


def _mode(entry: Entry) -> str:
    letters = stat.filemode(_TYPE_BITS[entry.kind] | (entry.mode or 0))
    return letters if entry.mode is not None else f"{letters[0]}---------"


def _time(entry: Entry) -> str:
    if entry.times.modified_ns is None:
        return f"{'-':>19}"
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=entry.times.modified_ns // 1000)
    except OverflowError:
        return f"{'out of range':>19}"
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _target(found: Found, entry: Entry) -> dict[str, str]:
    if entry.kind is not EntryKind.SYMLINK:
        return {}
    try:
        return {"target": found.file_system.symlink_target(entry)}
    except StillframeError as error:
        return {"target_problem": str(error)}
