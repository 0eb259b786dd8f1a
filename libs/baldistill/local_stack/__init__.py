"""Real servers on the loopback, without Docker: for `make up`, for tests and for chaos (DESIGN 6, local stack)."""
