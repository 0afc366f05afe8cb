"""``stillframe files``: list, show, search and restore single files out of a disk."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from stillframe.cli.options import Access, KeyFile, OptionalRepo, PassphraseFile
from stillframe.cli.output import print_json, printable, progress_bar
from stillframe.cli.sizes import format_size

app = typer.Typer(help="Single files out of a disk, without mounting it.", no_args_is_help=True)

Spec = Annotated[
    str,
    typer.Argument(metavar="POINT:DISK/PATH|FILE:/PATH", help="A disk and a path on it.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Guest = Annotated[
    bool, typer.Option("--guest", help="Replay journals in a throw-away virtual machine before reading.")
]
HostKernel = Annotated[
    bool,
    typer.Option("--host-kernel", help="Read with this machine's kernel (root); only disks that you trust."),
]


@app.command("ls")
def list_files(
    spec: Spec,
    long: Annotated[bool, typer.Option("-l", help="Show mode, owner, size and time.")] = False,
    recursive: Annotated[bool, typer.Option("-R", help="List all that is below.")] = False,
    json: Json = False,
    guest: Guest = False,
    host_kernel: HostKernel = False,
    repo: OptionalRepo = None,
    passphrase_file: PassphraseFile = None,
    key_file: KeyFile = None,
) -> None:
    """List a folder; at the root of a disk with partitions, its volumes."""
    from stillframe.cli import file_listing
    from stillframe.cli.file_session import FileSession

    access = Access(repo, passphrase_file, key_file)
    with FileSession(access, guest=guest, host_kernel=host_kernel) as session:
        place = session.open(spec)
        if place.disk is None:
            file_listing.print_disks(place.names, as_json=json)
        elif place.found is None:
            file_listing.print_volumes(place.disk, as_json=json)
        else:
            session.warn_about(place.found)
            entries = file_listing.entries_of(place.found, recursive=recursive, report=session.report)
            if json:
                file_listing.print_entries_json(place.found, entries, session.problems)
            else:
                file_listing.print_entries(place.found, entries, long=long)


@app.command("cat")
def show_file(
    spec: Spec,
    guest: Guest = False,
    host_kernel: HostKernel = False,
    repo: OptionalRepo = None,
    passphrase_file: PassphraseFile = None,
    key_file: KeyFile = None,
) -> None:
    """Write the contents of a file to standard output."""
    from stillframe.cli.file_session import FileSession
    from stillframe.recovery.files import read_pieces

    access = Access(repo, passphrase_file, key_file)
    with FileSession(access, guest=guest, host_kernel=host_kernel) as session:
        found = session.open_file(spec)
        session.warn_about(found)
        for piece in read_pieces(found):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


@app.command("find")
def find_files(
    spec: Annotated[
        str, typer.Argument(metavar="POINT|FILE[:/PATH]", help="Where to search.", show_default=False)
    ],
    pattern: Annotated[
        str,
        typer.Argument(
            metavar="PATTERN",
            help="Of the name, or with a slash of the path: *, ?, [abc].",
            show_default=False,
        ),
    ],
    json: Json = False,
    guest: Guest = False,
    host_kernel: HostKernel = False,
    repo: OptionalRepo = None,
    passphrase_file: PassphraseFile = None,
    key_file: KeyFile = None,
) -> None:
    """Search all volumes of all disks for names."""
    from stillframe.cli import file_listing
    from stillframe.cli.file_session import FileSession
    from stillframe.recovery.files import find

    access = Access(repo, passphrase_file, key_file)
    with FileSession(access, guest=guest, host_kernel=host_kernel) as session:
        matches: list[dict[str, object]] = []
        for prefix, found in session.open_all(spec):
            session.warn_about(found)
            for path, entry in find(found, pattern, session.report):
                place = f"{prefix}{found.path.rstrip('/')}/{path}"
                if json:
                    matches.append({"path": place, **file_listing.as_json(entry)})
                else:
                    print(printable(place))
        if json:
            print_json({"matches": matches, "problems": session.problems})


@app.command("restore")
def restore_files(
    specs: Annotated[
        list[str],
        typer.Argument(metavar="POINT:DISK/PATH|FILE:/PATH...", help="What to restore.", show_default=False),
    ],
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="The folder to restore to.", show_default=False)
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be restored.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist; merge folders.")] = False,
    no_streams: Annotated[bool, typer.Option("--no-streams", help="Leave out alternate streams.")] = False,
    json: Json = False,
    guest: Guest = False,
    host_kernel: HostKernel = False,
    repo: OptionalRepo = None,
    passphrase_file: PassphraseFile = None,
    key_file: KeyFile = None,
) -> None:
    """Restore files and folders with times, owners, modes, links and attributes."""
    from stillframe.cli import file_listing
    from stillframe.cli.file_session import FileSession
    from stillframe.recovery.restoring import RestoreOptions, plan, restore

    access = Access(repo, passphrase_file, key_file)
    with FileSession(access, guest=guest, host_kernel=host_kernel) as session:
        sources = [session.open_file(spec) for spec in specs]
        for found in sources:
            session.warn_about(found)
        if dry_run:
            for item in plan(sources, session.report):
                print(f"{format_size(item.size_bytes):>12}  {printable(item.path)}")
            return
        with progress_bar(quiet=json) as progress:
            progress.begin("restoring files", None)
            options = RestoreOptions(replace=force, streams=not no_streams)
            report = restore(sources, to, options, progress)
        for problem in report.problems:
            session.report(problem)
        file_listing.print_report(report, to, as_json=json)
