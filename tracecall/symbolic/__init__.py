"""The same recording on fake tensors: shapes as formulas of named dimensions, and what would fit a failed run."""
