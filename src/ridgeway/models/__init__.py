"""Checkpoints: from what a person names to a configuration, packed tensors and a tokenizer."""
