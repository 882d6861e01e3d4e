"""The clients of applications, one file for each language. `make clients` writes them from the table in entries.py."""
