"""The engine behind an HTTP server in the OpenAI protocol."""
