"""Reads label tables, prepared datasets and batches; numpy only."""
