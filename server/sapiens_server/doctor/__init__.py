"""What of this machine and installation keeps `sapiens serve` from serving, and what to do about it."""
