"""The command line: one module per command; no work is done here."""
