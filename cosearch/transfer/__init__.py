"""What finished searches teach the next one: a bank of them, how similar their tasks are, a start from their best designs."""
