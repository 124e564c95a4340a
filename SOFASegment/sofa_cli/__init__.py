"""The `sofa` command."""
