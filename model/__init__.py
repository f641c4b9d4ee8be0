"""The model room: shapes and counts, decoder, attention, loss, generation, Hugging Face folders.

Flow: config (what to build) -> decoder (ids to hidden states; attention decides who sees whom) -> loss
(hidden states to nats) or generate (hidden states to tokens) -> huggingface (a folder that transformers
loads). Reads no corpus."""
