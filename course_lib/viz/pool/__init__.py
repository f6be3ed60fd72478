"""The picture of a block pool or a cache manager, and the film of a recorded trace of one."""
