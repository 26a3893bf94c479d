"""What speaks for and against a tag, and a person's decisions about it."""
