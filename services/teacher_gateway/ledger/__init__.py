"""The ledger's terms and decisions, without a database: budgets, windows, holds, bookings (DESIGN 4)."""
