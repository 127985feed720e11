"""The task predict: named arrays in, named arrays out, whatever computes them."""
