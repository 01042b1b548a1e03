"""One file per subcommand of `cosearch`; the file's name is the command's name."""
