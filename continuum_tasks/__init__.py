"""CONTINUUM backup: backup and recovery for live SQLite databases."""

__version__ = "0.1.0"
