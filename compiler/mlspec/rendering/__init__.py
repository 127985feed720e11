"""Templates to text, such that text from a spec can't become code."""
