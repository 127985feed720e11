"""What is known of the computers that services run on: data with sources, profiles, and what a Mac says of itself."""
