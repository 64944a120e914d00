"""What jupbox looks like in a terminal: the pictures and outputs of the README."""
