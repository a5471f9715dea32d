"""Studies: several experiments on the same data, each with several seeds, compared with one of them."""
