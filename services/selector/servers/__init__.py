"""The selector's gRPC face."""
