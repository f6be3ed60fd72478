"""What commands show in a terminal: findings, tables, answers as they come."""
