"""Adapters of this service's ports."""
