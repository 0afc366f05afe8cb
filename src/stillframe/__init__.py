"""Stillframe: forever-incremental protection for virtual machines, at the level of the hypervisor."""

__version__ = "0.1.0"
