"""SQL: engines, the database's clock, migrations. The only place that knows which database it is."""
