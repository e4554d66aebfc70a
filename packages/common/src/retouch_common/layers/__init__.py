"""Building blocks of networks that more than one package could use."""
