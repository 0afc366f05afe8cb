"""Checking a repository and mending it."""
