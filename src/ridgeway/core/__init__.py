"""The vocabulary: what a query, an answer, a method and an executor are. Imports nothing else of Ridgeway."""
