"""Longer trainings whose results the chapters show beside the student's own: what ``course bench`` measures."""
