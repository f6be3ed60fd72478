"""Where a submission runs: alone, without network, without anything to read but the course."""
