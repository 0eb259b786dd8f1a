"""The event chain: facts, their identities and their envelope (DESIGN 3)."""
