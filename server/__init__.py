"""The server: HTTP in OpenAI's shapes, continuous batching, keys, limits, the usage ledger, metrics, a page."""
