"""Kubernetes without containers: its API server, controllers and scheduler as processes of this machine, for tests."""
