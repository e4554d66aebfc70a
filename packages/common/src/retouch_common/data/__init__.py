"""Training pairs: folders of photographs, published data sets, plain portraits."""
