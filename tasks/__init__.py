"""What each stage computes, one module a stage, and the engines where its shards run."""
