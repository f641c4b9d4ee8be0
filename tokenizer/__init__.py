"""The tokenizer room: byte-level BPE, the one prompt template, and turning a corpus into token arrays."""
