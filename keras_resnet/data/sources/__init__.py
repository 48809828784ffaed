"""From a spec to examples: how a label, a class and a split are found."""
