"""The four services, the embedded mode that joins them, and the command line."""
