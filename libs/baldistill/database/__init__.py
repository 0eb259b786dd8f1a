"""SQL: engines, migrations, transactions."""
