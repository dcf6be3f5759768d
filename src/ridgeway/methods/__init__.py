"""Decoding methods: one file each. A method knows no executor and no tensor; see `core.method` for the contract."""
