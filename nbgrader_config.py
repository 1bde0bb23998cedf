"""The classroom: nbgrader as it is, with the course's own steps for releasing, grading and feedback."""

from proctor.nbgrader import configure

c = get_config()  # noqa: F821 - nbgrader defines it when it reads this file

c.CourseDirectory.course_id = "transformers"
configure(c)
