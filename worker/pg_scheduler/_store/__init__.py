"""The only part that speaks to PostgreSQL: SQL in named files, one store for each kind of row."""
