"""One trainer for all trainings: what it reads, what it teaches, its loop, and how scores become probabilities."""
