"""The workshop: a room for each command of ``course``. Nothing in the library imports from here."""
