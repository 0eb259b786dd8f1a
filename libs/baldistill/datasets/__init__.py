"""Data sets: import, versioned storage, streaming, held-out split."""
