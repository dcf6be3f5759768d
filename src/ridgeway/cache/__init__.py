"""Bookkeeping of the paged K/V cache (Kwon et al. 2023): integers only, no tensor. Executors own the storage."""
