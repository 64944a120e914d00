"""The stages of `up`: lock, build, seal, deploy. Each takes the last one's result."""
