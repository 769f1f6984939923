//! Nothing: the stories are the examples of this package, one file each.
