"""Real PostgreSQL servers and PgBouncers on loopback, and a proxy in front of them that can fail."""
