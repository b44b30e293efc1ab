"""``course bench``: speed, and the longer trainings whose results the chapters show beside the student's own."""
