"""The graph: nodes, operations' records, dtypes, shapes, modes. Of flatgrad it imports errors alone."""
