"""The label system: which words become tags, what they are called, and how people curate them.

``counts`` selects words by frequency, ``synonyms`` proposes which of them mean the same, ``grounding`` says what a
detector may look for, ``ready_lists`` reads label systems that others made, ``edits`` takes a person's changes,
``coverage`` and ``diff`` compare a label system with a list of words and with another version of itself.
"""
