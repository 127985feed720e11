"""Models of scikit-learn, as skops saves them."""
