"""What finds the regions of tags in pictures: a file a member, and ``room`` has them all."""
