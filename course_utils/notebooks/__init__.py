"""Chapters as files: built from their sources, executed, exported and compared. Used by the ``course`` command."""
