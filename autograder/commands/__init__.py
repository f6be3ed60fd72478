"""The commands of `course`, one file each."""
