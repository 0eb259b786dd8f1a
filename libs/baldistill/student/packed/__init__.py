"""Training passes without padding: what rows share is computed once (ADR 42)."""
