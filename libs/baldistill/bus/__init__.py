"""The event bus port and its adapters (DESIGN 3)."""
