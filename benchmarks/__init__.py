"""Measures Stillframe beside restic, borg, zstd and cp on one machine in one run: ``make bench``."""
