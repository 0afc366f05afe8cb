"""The demo: a company's books, protected, robbed and brought back, on real disks with real file systems.

``python -m tools.demo`` runs the command line as a user would and prints every command before it runs it.
What it leaves in its folder is there to go on with by hand; the next start removes it.
"""
