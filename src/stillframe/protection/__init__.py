"""The strategies: how a machine is protected."""
