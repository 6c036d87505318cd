"""The command `sapiens`."""
