"""Artifacts: content-addressed files and create-only manifests behind one port (DESIGN 5)."""
