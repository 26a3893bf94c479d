"""What says which tags and captions an image has: a file a member, and ``room`` has them all.

``base`` says what an annotator is, ``folder`` opens the one that a model folder holds, and ``asking`` asks it, so that
what it fails on costs one image. ``models`` is the annotator that the engine trains.
"""
