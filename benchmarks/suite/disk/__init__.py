"""Starting Python and reaching a first result, with what an earlier process left on disk."""
