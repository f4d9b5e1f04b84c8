"""`make demo`: the product's story on real flights, with the real parts."""
