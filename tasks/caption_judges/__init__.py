"""Who says whether a caption fits its picture: a file a member, and ``room`` has them all."""
