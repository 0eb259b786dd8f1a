"""The OpenAI-compatible HTTP face (docs/reference/http.md)."""
