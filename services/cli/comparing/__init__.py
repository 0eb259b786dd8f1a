"""Comparing methods: cells of a grid, what came of each, and which differences are real."""
