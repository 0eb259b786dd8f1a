"""selector: chooses the most informative examples."""
