"""One iteration of the scheduler, segment by segment in the order of service."""
