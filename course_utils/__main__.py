"""``python -m course_utils`` is the ``course`` command."""

from course_utils.commands.cli import main

main(prog_name="course")
