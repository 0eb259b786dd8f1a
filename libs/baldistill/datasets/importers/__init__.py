"""Data sets in the layouts that their publishers chose: one module each, all giving the same four fields."""
