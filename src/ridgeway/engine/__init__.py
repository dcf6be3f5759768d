"""The step loop: who runs, with how many rows, and what becomes of the answers. Knows no method and no executor."""
