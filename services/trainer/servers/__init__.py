"""The trainer's gRPC face."""
