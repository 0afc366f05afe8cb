"""What can go wrong with a repository, beyond the storage itself."""

from __future__ import annotations

from stillframe.errors import CorruptInputError, StillframeError, UsageError


class NoRepositoryError(UsageError):
    """There is no repository at that place."""


class WrongKeyError(StillframeError):
    """The passphrase, recovery key or credential does not open this repository."""

    exit_code = 3


class ReaderKeyNeededError(StillframeError):
    """The credential at hand can write, but the contents of data packs stay closed to it."""

    exit_code = 3


class DamagedError(CorruptInputError):
    """An object of the repository is not what was written."""


class ConflictError(StillframeError):
    """What a commit builds on is gone from the log's point of view; doing the work again mends it."""

    exit_code = 6


class UnknownFeatureError(StillframeError):
    """The repository uses something that this version does not know."""

    exit_code = 5
