"""How many messages one database carries, and a billion messages a day over several: `make scale`. No tests."""
