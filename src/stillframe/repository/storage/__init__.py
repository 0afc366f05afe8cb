"""Where the repository keeps its objects: names and bytes, nothing else."""
