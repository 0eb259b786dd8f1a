"""The student: loading, rendering, scoring, training (torch lives here)."""
