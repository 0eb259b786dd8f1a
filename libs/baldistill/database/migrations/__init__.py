"""Revisions of the one schema that all services share, in `versions`."""
