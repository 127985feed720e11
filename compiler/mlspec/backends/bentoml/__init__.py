"""BentoML as what serves a bundle."""
