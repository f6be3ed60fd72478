"""Where ``course-tiny`` comes from: a text written for this course, and a program that learns it.

The checkpoint itself is in ``course_lib/engine/tiny/checkpoints/course-tiny``. A test tells when
the text has changed since; then train again, and put the new folder in the place of the old one::

    python -m course_lib.engine.tiny.train --output NEW_FOLDER
"""
