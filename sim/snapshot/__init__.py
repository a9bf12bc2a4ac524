"""Reading snapshots: one module per kind of dump, every one turning text into model objects."""
