"""Face parsing: which of Helen's 11 classes every pixel of a face belongs to."""
