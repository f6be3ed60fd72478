"""The figure kit: shapes and scenes, what draws them, and what moves them."""
