"""The graph: nodes, operations' records, dtypes, shapes, modes. Imports nothing else of flatgrad but errors."""
