"""From a still disk into the repository: plan, read ahead, hash, compress, encrypt, store, build the tree."""

from stillframe.repository.ingest.run import IngestRun
from stillframe.repository.ingest.statistics import Statistics

__all__ = ["IngestRun", "Statistics"]
