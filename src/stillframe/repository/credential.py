"""The credential file of a host that may write and not read (format, section 3)."""

from __future__ import annotations

import json
from dataclasses import dataclass

from stillframe.repository.config import Config
from stillframe.repository.errors import DamagedError, WrongKeyError
from stillframe.repository.keys import Bundle

_KIND = "writer credential"


@dataclass(frozen=True, slots=True)
class WriterCredential:
    """Keys to add recovery points to one repository; guest data stays closed to their holder."""

    repository_id: str
    bundle: Bundle

    def bundle_for(self, config: Config, origin: str) -> Bundle:
        """The keys, if they are of this repository.

        Raises:
            WrongKeyError: they are of another one.
        """
        if self.repository_id != config.repository_id:
            raise WrongKeyError(
                f"{origin}: is the credential of repository {self.repository_id}, "
                f"not of this one ({config.repository_id})"
            )
        return self.bundle

    def to_bytes(self) -> bytes:
        bundle = self.bundle.without_reader_keys().to_json()
        document = {"stillframe": _KIND, "repository_id": self.repository_id, "bundle": bundle}
        return json.dumps(document, indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes, origin: str) -> WriterCredential:
        """Read a credential file.

        Raises:
            DamagedError: it is none; ``origin`` names it.
        """
        try:
            document = json.loads(data)
            if document["stillframe"] != _KIND:
                raise ValueError(f"a {document['stillframe']!r}")
            repository_id = str(document["repository_id"])
            bundle = json.dumps(document["bundle"]).encode()
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedError(f"{origin}: is no {_KIND} ({error})") from error
        return cls(repository_id, Bundle.from_bytes(bundle, origin))
