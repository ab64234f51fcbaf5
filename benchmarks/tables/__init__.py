"""Tables of the README and the docs, each made from its result files."""
