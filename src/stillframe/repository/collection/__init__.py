"""Giving space back: mark what is reachable, rewrite what is wasteful, delete what the log has let go."""

from stillframe.repository.collection.collect import CollectReport, collect, collect_steps

__all__ = ["CollectReport", "collect", "collect_steps"]
