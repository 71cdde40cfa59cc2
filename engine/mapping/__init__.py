"""Rules: a SELECT becomes a checked plan (`compiler`), and a batch of rows becomes the rows of the target (`evaluator`)."""
