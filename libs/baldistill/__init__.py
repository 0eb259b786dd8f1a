"""Shared libraries of BalDistill: ports, adapters and the language that the four services speak."""

__version__ = "0.1.0"
