"""How the course is built, handed out, checked and graded."""
