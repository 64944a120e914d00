"""One module a verb: a readable list of stages."""
