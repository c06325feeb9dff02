"""Models of others, a family a file: whether tensors are of it, which Separator takes them, under which names."""
