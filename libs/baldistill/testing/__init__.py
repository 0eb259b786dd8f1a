"""Builders and faulty doubles for tests of any service; never imported by production code."""
