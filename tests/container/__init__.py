"""Images of bundles, built and run without a Docker daemon: by Debian's buildah, podman and runc."""
