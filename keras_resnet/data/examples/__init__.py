"""From examples to batches: in memory, encoded or streamed, in an order that is a function of seed and step."""
